"use strict";
// Tables: a click on a head sorts, again turns round; empty cells stay last. A row must hold every word of the filter.
for (const part of document.querySelectorAll("section.table")) {
  const body = part.querySelector("tbody");
  const rows = [...body.rows];
  const heads = [...part.querySelectorAll("th")];
  const filter = part.querySelector("input");
  const count = part.querySelector("output");
  const texts = rows.map((row) => row.textContent.toLowerCase());
  heads.forEach((head, column) => head.querySelector("button").addEventListener("click", () => {
    const numeric = head.classList.contains("number");
    const now = head.getAttribute("aria-sort");
    const up = now ? now === "descending" : !numeric;  // numbers begin with the highest
    for (const other of heads) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", up ? "ascending" : "descending");
    const value = (row) => row.cells[column].dataset.sort;
    const order = (a, b) => numeric ? Number(a) - Number(b) : a.localeCompare(b, undefined, {numeric: true});
    const compare = (a, b) => {
      const [x, y] = [value(a), value(b)];
      if (x === undefined || y === undefined) return (x === undefined) - (y === undefined);
      return up ? order(x, y) : order(y, x);
    };
    body.append(...[...rows].sort(compare));
  }));
  filter.addEventListener("input", () => {
    const words = filter.value.toLowerCase().split(/\s+/).filter(Boolean);
    rows.forEach((row, index) => { row.hidden = !words.every((word) => texts[index].includes(word)); });
    const shown = rows.filter((row) => !row.hidden).length;
    count.textContent = shown === rows.length ? `${shown} rows` : `${shown} of ${rows.length} rows`;
  });
}

// Questions. Data: methods (title, block, compared: no floor); benchmarks (title, labels, total, questions); texts and entities, which
// prompts name by number. A question: id; p: its prompt, a number for a text, a number in a list for an entity; l: the
// true label; m: methods that were asked; a: their answers (a label's index, -1 not parsed, null none); c: confidence
// in percent; r: method -> raw answer that could not be parsed.
const block = document.getElementById("data");
if (block) browse(JSON.parse(block.textContent));

function browse(data) {
  const at = (id) => document.getElementById(id);
  const make = (tag, text = "", kind = "") => {
    const node = document.createElement(tag);
    node.textContent = text;
    if (kind) node.className = kind;
    return node;
  };
  const choose = (select, titles, value) => {
    titles.forEach((title, index) => {
      const option = make("option", title);
      option.value = index;
      select.append(option);
    });
    select.value = value;
  };
  const titles = data.methods.map((method) => method.title);
  const first = (...blocks) => Math.max(0, ...blocks.map((name) => data.methods.findLastIndex((m) => m.block === name)));
  choose(at("benchmark"), data.benchmarks.map((benchmark) => benchmark.title), 0);
  choose(at("first"), titles, first("ES-Merging"));
  choose(at("second"), titles, first("Merges") || first("References"));
  let shown = [];
  let current = 0;

  const answer = (question, method) => {
    const index = question.m.indexOf(method);
    return index < 0 ? null : question.a[index];
  };
  const isAsked = (given) => given !== null && given !== undefined;
  const right = (question) => question.a.filter((given) => given === question.l).length;
  const differs = (question) => new Set(
    question.a.filter((given, place) => isAsked(given) && data.methods[question.m[place]].compared)).size > 1;
  const textOf = (question) => [question.id, ...question.p.map((part) =>
    Array.isArray(part) ? data.entities[part[0]].value : data.texts[part])].join(" ").toLowerCase();
  const tests = {
    all: () => true,
    differ: differs,
    pair: (question) => {
      const [a, b] = [at("first"), at("second")].map((select) => answer(question, Number(select.value)));
      return a === question.l && isAsked(b) && b !== question.l;
    },
    nobody: (question) => right(question) === 0,
  };

  function update() {
    const benchmark = data.benchmarks[at("benchmark").value];
    const words = at("search").value.toLowerCase().split(/\s+/).filter(Boolean);
    shown = benchmark.questions.filter(tests[at("show").value])
      .filter((question) => !words.length || words.every((word) => textOf(question).includes(word)));
    at("list").replaceChildren(...shown.map((question, index) => {
      const item = make("li");
      const button = make("button", question.id);
      button.type = "button";
      button.append(make("span", `${right(question)}/${question.a.filter(isAsked).length}`, "quiet"));
      button.addEventListener("click", () => show(index));
      item.append(button);
      return item;
    }));
    show(0);
  }

  function show(index) {
    current = Math.min(Math.max(index, 0), Math.max(shown.length - 1, 0));
    const benchmark = data.benchmarks[at("benchmark").value];
    const position = shown.length ? `${current + 1} of ${shown.length}` : "no such question";
    at("position").textContent = `${position} (${benchmark.total} were asked)`;
    at("previous").disabled = current === 0;
    at("next").disabled = current >= shown.length - 1;
    [...at("list").querySelectorAll("button")].forEach((button, place) => {
      button.setAttribute("aria-current", String(place === current));
    });
    const parts = shown.length ? card(benchmark, shown[current]) : [make("p", "No question passes the filter.", "quiet")];
    at("question").replaceChildren(...parts);
  }

  function card(benchmark, question) {
    const head = make("h3", `${benchmark.title}: ${question.id}`);
    const truth = make("p", "Right answer: ");
    truth.append(make("strong", benchmark.labels[question.l]));
    const prompt = make("p", "", "prompt");
    for (const part of question.p) {
      const entity = Array.isArray(part) ? data.entities[part[0]] : null;
      const node = entity ? make("mark", entity.value) : document.createTextNode(data.texts[part]);
      if (entity) node.title = entity.modality;
      prompt.append(node);
    }
    if (!question.p.length) prompt.append(make("span", "The prompt was not stored.", "quiet"));
    return [head, prompt, molecules(question), truth, answers(benchmark, question)];
  }

  function molecules(question) {
    const row = make("div", "", "molecules");
    const named = question.p.filter(Array.isArray).map((part) => data.entities[part[0]]);
    for (const entity of new Set(named.filter((one) => one.svg))) {
      const figure = make("figure");
      const image = make("img");
      image.alt = `${entity.modality} ${entity.value}`;
      image.src = `data:image/svg+xml;utf8,${encodeURIComponent(entity.svg)}`;
      figure.append(image, make("figcaption", entity.value));
      row.append(figure);
    }
    return row;
  }

  function answers(benchmark, question) {
    const table = make("table");
    const top = table.createTHead().insertRow();
    for (const title of ["kind", "method", "answer", "", "confidence, %"]) top.append(make("th", title));
    const body = table.createTBody();
    question.m.forEach((method, index) => {
      const given = question.a[index];
      if (!isAsked(given)) return;
      const row = body.insertRow();
      const is = given === question.l ? "right" : "wrong";
      const text = given < 0 ? `not understood: ${question.r[method] || "(empty)"}` : benchmark.labels[given];
      row.append(make("td", data.methods[method].block), make("td", titles[method]), make("td", text),
        make("td", is, is), make("td", isAsked(question.c[index]) ? String(question.c[index]) : "\u2013", "number"));
    });
    const frame = make("div", "", "scroll");
    frame.append(table);
    return frame;
  }

  for (const id of ["benchmark", "show", "first", "second", "search"]) at(id).addEventListener("input", update);
  at("previous").addEventListener("click", () => show(current - 1));
  at("next").addEventListener("click", () => show(current + 1));
  update();
}
