from __future__ import annotations

import json
import re
import shutil
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from tests.report.asked import HOSTILE, MOLECULES, asked_sweep
from tests.report.chromium import ABSENT, PROGRAM, Page
from tests.report.synthetic import add_run, fail_run, seal

from esmerge.core.errors import StoreError
from esmerge.report.build import build_report
from esmerge.report.load import load_sweep
from esmerge.report.page import questions as page_questions
from esmerge.report.page import write as page_write
from esmerge.report.page.cells import MOST_ROWS, frame_table, places
from esmerge.report.page.molecules import compact, drawing, drawn_modalities
from esmerge.report.page.questions import question_browser, selected


def in_chromium(test: Any) -> Any:
    """Slow, and skipped where no browser is installed."""
    return pytest.mark.slow(pytest.mark.skipif(PROGRAM is None, reason=ABSENT)(test))


class Reader(HTMLParser):
    """Tags with their attributes, and the text in each kind of tag."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: dict[str, list[str]] = {}
        self._open = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._open = tag

    def handle_data(self, data: str) -> None:
        self.texts.setdefault(self._open, []).append(data)


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = asked_sweep(tmp_path_factory.mktemp("asked") / "sweep")
    build_report(folder)
    return folder


@pytest.fixture(scope="module")
def page(sweep: Path) -> Reader:
    return Reader((sweep / "report.html").read_text(encoding="utf-8"))


def stored_data(page: Reader) -> dict[str, Any]:
    (text,) = (text for text in page.texts["script"] if text.startswith("{"))
    data: dict[str, Any] = json.loads(text)
    return data


def test_the_page_asks_nothing_of_any_network(page: Reader) -> None:
    addresses = [attributes[name] for _, attributes in page.tags for name in ("src", "href") if name in attributes]
    assert addresses and all(str(address).startswith(("data:", "#")) for address in addresses)
    (policy,) = (a["content"] for tag, a in page.tags if tag == "meta" and a.get("http-equiv"))
    assert str(policy).startswith("default-src 'none'; img-src data:;") and "unsafe" not in str(policy)


def test_the_verdict_comes_first_and_every_link_leads_somewhere(page: Reader, sweep: Path) -> None:
    names = [
        attributes["id"] for tag, attributes in page.tags if tag == "section" and attributes.get("class") != "table"
    ]
    assert names == ["verdict", "results", "figures", "questions", "numbers", "runs", "origin"]
    links = [str(attributes["href"])[1:] for tag, attributes in page.tags if tag == "a"]
    assert set(links) == set(names)
    assert "ES-Merging (joint, factors) is the best merge" in "".join(page.texts["p"])


def test_texts_of_others_stay_text(page: Reader) -> None:
    assert not [attributes for tag, attributes in page.tags if tag == "img" and attributes.get("src") == "x"]
    assert any(HOSTILE in text for text in page.texts["td"])  # the reason of the failed run, and a setting
    assert any(HOSTILE in text for text in stored_data(page)["texts"])


def test_every_figure_is_in_the_page(page: Reader, sweep: Path) -> None:
    names = {str(a["id"]).removeprefix("figure-") for tag, a in page.tags if tag == "figure"}
    assert names == {path.stem for path in (sweep / "figures").iterdir()}


def test_tables_hold_what_the_files_hold(page: Reader, sweep: Path) -> None:
    names = [str(a["id"]) for tag, a in page.tags if tag == "section" and a.get("class") == "table"]
    assert names == [
        "table-results-0", "table-comparisons", "table-retention", "table-metrics", "table-runs", "table-settings",
        "table-settings-by-run", "table-provenance", "table-provenance-by-run",
    ]  # fmt: skip
    accuracies = pd.read_csv(sweep / "table.csv")["accuracy"].dropna()
    values = {a["data-sort"] for tag, a in page.tags if tag == "td" and a.get("data-sort")}
    assert {str(value) for value in accuracies} <= values


def test_settings_are_told_apart_from_those_that_all_share(page: Reader) -> None:
    cells = [text for text in page.texts["td"] if text.strip()]
    assert cells[cells.index("probe.samples") + 1] == "330"
    assert "method.scale" in page.texts["button"] and "method.scale" not in cells
    assert cells[cells.index("libraries.torch") + 1] == "2.9"


def test_the_same_store_gives_the_same_page(sweep: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(sweep, tmp_path / "sweep")
    build_report(copy)
    assert (copy / "report.html").read_bytes() == (sweep / "report.html").read_bytes()


def test_answers_are_those_of_the_runs(page: Reader, sweep: Path) -> None:
    data = stored_data(page)
    titles = [method["title"] for method in data["methods"]]
    (binding, _) = data["benchmarks"]
    frame = pd.read_csv(sweep / "average" / "predictions" / "drug_protein.csv").set_index("id")
    place = titles.index("Average")
    for question in binding["questions"]:
        answer = question["a"][question["m"].index(place)]
        assert binding["labels"][answer] == frame.loc[question["id"], "prediction"]
        assert binding["labels"][question["l"]] == frame.loc[question["id"], "label"]
    assert len(binding["questions"]) == binding["total"] == len(frame)


def test_prompts_are_whole_and_molecules_alone_are_drawn(page: Reader) -> None:
    data = stored_data(page)
    parts = data["benchmarks"][0]["questions"][2]["p"]
    words = [data["entities"][part[0]]["value"] if isinstance(part, list) else data["texts"][part] for part in parts]
    assert "".join(words) == f"Does {MOLECULES[2]} binds CCNCC in ALB TTR? {HOSTILE}"
    molecules = {entity["value"] for entity in data["entities"] if entity["svg"]}
    assert molecules == set(MOLECULES)


def test_what_could_not_be_parsed_is_shown_raw(tmp_path: Path) -> None:
    run = add_run(tmp_path, "average", "average", 1.0, n=4, suite={"x": ("X", "cross_modal")})
    frame = run.read_predictions("x")
    assert frame is not None
    frame.loc[1, ["prediction", "raw_answer"]] = ["", "well, perhaps"]
    frame.loc[1, ["score:no", "score:yes"]] = float("nan")
    run.write_predictions("x", frame)
    seal(run)
    browser: Any = question_browser(load_sweep(tmp_path))
    question = browser.data["benchmarks"][0]["questions"][1]
    assert (question["a"], question["c"], question["r"]) == ([-1], [None], {0: "well, perhaps"})
    assert all(other["c"] != [None] for other in browser.data["benchmarks"][0]["questions"] if other is not question)


def test_floors_do_not_count_as_methods_that_differ(tmp_path: Path) -> None:
    for method, rate in (("majority", 0.5), ("average", 1.0), ("base", 1.0)):
        add_run(tmp_path, method, method, rate, n=20, suite={"x": ("X", "cross_modal")})
    browser: Any = question_browser(load_sweep(tmp_path))
    assert [method["compared"] for method in browser.data["methods"]] == [False, True, True]


def test_a_method_that_was_not_asked_a_question_has_no_answer_to_it(tmp_path: Path) -> None:
    for method, n in (("average", 6), ("base", 4)):
        add_run(tmp_path, method, method, 1.0, n=n, suite={"x": ("X", "cross_modal")})
    browser: Any = question_browser(load_sweep(tmp_path))
    question = browser.data["benchmarks"][0]["questions"][5]
    titles = [method["title"] for method in browser.data["methods"]]
    assert question["a"][question["m"].index(titles.index("Base model"))] is None and question["l"] == 1


def test_a_sweep_without_stored_questions_shows_ids_and_answers(tmp_path: Path) -> None:
    add_run(tmp_path, "average", "average", 0.6, n=20)
    browser = question_browser(load_sweep(tmp_path))
    assert browser is not None
    benchmarks: Any = browser.data["benchmarks"]
    assert benchmarks[0]["questions"][0]["p"] == [] and benchmarks[0]["questions"][0]["id"] == "q0"


def test_a_sweep_without_a_finished_run_still_has_a_page(tmp_path: Path) -> None:
    fail_run(tmp_path, "es", ValueError("no backbone"))
    build_report(tmp_path)
    page = Reader((tmp_path / "report.html").read_text(encoding="utf-8"))
    assert "ValueError: no backbone" in page.texts["td"]
    assert not [a for tag, a in page.tags if a.get("id") == "questions"]


def test_damaged_questions_are_named(sweep: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(sweep, tmp_path / "sweep")
    (path,) = (copy / "questions").iterdir()
    path.write_text("{", encoding="utf-8")
    with pytest.raises(StoreError, match=path.name):
        question_browser(load_sweep(copy))


def test_questions_are_halved_until_they_fit(sweep: Path) -> None:
    browser = question_browser(load_sweep(sweep))
    assert browser is not None
    letters = page_questions._length(json.dumps(browser.data)) - 1000
    fewer = question_browser(load_sweep(sweep), letters)
    assert fewer is not None and page_questions._length(json.dumps(fewer.data)) < letters + 500
    assert "At most 30 questions" in fewer.notes[0] and browser.notes[0].startswith("All questions of seed 0")


def test_questions_take_what_tables_and_figures_leave_of_the_page(
    sweep: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = shutil.copytree(sweep, tmp_path / "sweep")
    length = len((copy / "report.html").read_text(encoding="utf-8"))
    monkeypatch.setattr(page_write, "LEAST_LETTERS", 1)
    monkeypatch.setattr(page_write, "MOST_LETTERS", length - 4000)
    build_report(copy)
    text = (copy / "report.html").read_text(encoding="utf-8")
    (limit,) = re.findall(r"At most (\d+) questions per benchmark", text)
    assert int(limit) <= 30 and len(text) < length - 500


def test_three_quarters_of_the_questions_differ_where_there_are_enough() -> None:
    ids = [str(i) for i in range(100)]
    differing = set(ids[::2])
    selection = selected(ids, differing, 20)
    assert Counter(i in differing for i in selection) == {True: 15, False: 5}
    assert selection == sorted(selection, key=int) and int(selection[0]) < 5 and int(selection[-1]) > 90


@pytest.mark.parametrize(("differing", "expected"), [(3, 3), (98, 18), (100, 20), (0, 0)])
def test_questions_of_one_sort_make_up_for_those_of_the_other(differing: int, expected: int) -> None:
    ids = [str(i) for i in range(100)]
    selection = selected(ids, set(ids[:differing]), 20)
    assert len(selection) == 20 and sum(int(i) < differing for i in selection) == expected


def test_a_compact_drawing_has_every_line_of_rdkits() -> None:
    lines = {name: f"M {i},0 L 9,9\nQ 1,{i}, 2 2 " for i, name in enumerate("abc")}
    styles = {"a": "style='stroke:#000'", "b": "fill='#f00'", "c": "style='stroke:#000'"}
    paths = [f"<path class='bond-0' d='{lines[name]}' {styles[name]} />" for name in lines]
    svg = compact(f"<?xml?><svg x='1'><!-- head -->{''.join(paths)}</svg>")
    assert re.findall(r"<path .*?>", svg) == [
        "<path style='stroke:#000' d='M0,0L9,9Q1,0,2 2M2,0L9,9Q1,2,2 2'/>", "<path fill='#f00' d='M1,0L9,9Q1,1,2 2'/>"
    ]  # fmt: skip
    other = "<svg><ellipse cx='1' /></svg>"
    assert compact(other) == other


def test_a_molecule_is_drawn_and_other_texts_are_not() -> None:
    assert "<svg" in str(drawing("CCO")) and drawing("CC(") is None
    entities = [("a", "CCO"), ("a", "CCN"), ("b", "MKTAY"), ("b", "CCN"), ("c", "ALB TTR")]
    assert drawn_modalities(entities) == {"a"}


def test_a_long_table_says_what_is_left_out() -> None:
    frame = pd.DataFrame({"x": range(MOST_ROWS + 1)})
    table = frame_table("t", "T", frame, {"x": ("x", places(0))})
    assert len(table.rows) == MOST_ROWS and f"first {MOST_ROWS} of {MOST_ROWS + 1}" in table.notes[0]


def test_empty_cells_have_nothing_to_sort_by() -> None:
    frame = pd.DataFrame({"x": [0.5, float("nan")], "y": ["a", None]})
    table = frame_table("t", "T", frame, {"x": ("x", places(1, scale=100)), "y": ("y", None)})
    assert [[cell.sort for cell in row] for row in table.rows] == [[0.5, "a"], [None, None]]
    assert table.rows[0][0].text == "50.0"


TITLES = (
    "[...document.querySelectorAll('#table-results-0 tbody tr')].filter(r => !r.hidden).map(r => r.cells[1].innerText)"
)
HEAD = "document.querySelectorAll('#table-results-0 th button')[{}].click()"
SET = "(() => {{ const e = document.querySelector('{}'); e.value = '{}'; e.dispatchEvent(new Event('input')); }})()"


@in_chromium
def test_in_a_browser_tables_sort_and_filter_and_questions_show(sweep: Path, tmp_path: Path) -> None:
    with Page(sweep / "report.html", tmp_path / "profile") as page:
        assert page.run(TITLES) == ["Base model", "Average", "ES-Merging (joint, factors)"]
        page.run(HEAD.format(2))  # numbers: the highest first
        assert page.run(TITLES) == ["ES-Merging (joint, factors)", "Average", "Base model"]
        page.run(HEAD.format(2))
        assert page.run(TITLES) == ["Base model", "Average", "ES-Merging (joint, factors)"]
        page.run(SET.format("#table-results-0 input", "merg joint"))
        assert page.run(TITLES) == ["ES-Merging (joint, factors)"]
        assert page.run("document.querySelector('#table-results-0 output').innerText") == "1 of 3 rows"

        questions = "document.querySelectorAll('#list button').length"
        assert page.run(questions) == 40
        page.run(SET.format("#show", "differ"))
        assert 0 < page.run(questions) < 40
        assert "Average" in page.run("document.querySelector('#question table').innerText")
        images = "Promise.all([...document.images].map(i => i.decode().then(() => i.naturalWidth)))"
        assert min(page.run(images)) > 100  # figures, and the molecule of the question
        assert page.run("document.querySelectorAll('#question .molecules img').length") == 1
        assert HOSTILE in page.run("document.querySelector('.prompt').innerText")
        page.run(SET.format("#search", "nowhere"))
        assert page.run(questions) == 0 and page.run("document.title") == "sweep: report"

        assert page.complaints() == []
        assert page.requests() == [(sweep / "report.html").resolve().as_uri()]


@in_chromium
@pytest.mark.parametrize("dark", [False, True])
def test_in_a_browser_the_page_follows_the_readers_scheme(sweep: Path, tmp_path: Path, dark: bool) -> None:
    with Page(sweep / "report.html", tmp_path / "profile", dark) as page:
        ground = page.run("getComputedStyle(document.body).backgroundColor")
        red = int(re.findall(r"\d+", ground)[0])
        assert red < 64 if dark else red > 192
