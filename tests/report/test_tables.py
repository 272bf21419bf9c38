from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from tests.report.synthetic import RECORDS, SUITE, add_run, usual_sweep

from esmerge.merging.api import MERGES
from esmerge.report import published
from esmerge.report.load import Row, load_sweep
from esmerge.report.published import Published
from esmerge.report.statistics import against_baseline
from esmerge.report.table_files import write_tables
from esmerge.report.tables import build_table
from esmerge.storage.files import write_text
from esmerge.tracking.results import write_results


def tabulate(folder: Path) -> None:
    """Everything of a report but its figures."""
    write_results(folder)
    sweep = load_sweep(folder)
    write_tables(sweep, build_table(sweep, against_baseline(sweep)[0]))


def md_rows(sweep: Path) -> dict[str, dict[str, str]]:
    """Row title -> column title -> cell, read from ``table.md``."""
    lines = [line for line in (sweep / "table.md").read_text().splitlines() if line.startswith("|")]
    cells = [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]
    return {row[0]: dict(zip(cells[0][1:], row[1:], strict=True)) for row in cells[2:]}


def test_only_the_best_merge_of_a_column_is_bold(one_seed: Path) -> None:
    tabulate(one_seed)
    rows = md_rows(one_seed)
    assert rows["Task arithmetic (delta)"]["Cross-modal mean"].startswith("**")
    bold = {(title, column) for title, row in rows.items() for column, text in row.items() if "**" in text}
    assert {title for title, _ in bold} == {"Task arithmetic (delta)"} and len(bold) == 7


def test_the_next_lower_merge_is_underlined(one_seed: Path) -> None:
    tabulate(one_seed)
    rows = md_rows(one_seed)
    underlined = {(title, column) for title, row in rows.items() for column, text in row.items() if "<u>" in text}
    assert {title for title, _ in underlined} == {"TIES (delta)"} and len(underlined) == 7
    assert (one_seed / "table.tex").read_text().count(r"\underline{") == 7


def test_the_csv_holds_the_numbers_of_the_table(one_seed: Path) -> None:
    tabulate(one_seed)
    table = pd.read_csv(one_seed / "table.csv")
    base = table[(table["method"] == "Base model") & (table["column"] == "drug_cell")].iloc[0]
    text = f"{100 * base['accuracy']:.1f} [{100 * base['ci_low']:.1f}, {100 * base['ci_high']:.1f}]"
    assert md_rows(one_seed)["Base model"]["Drug\N{EN DASH}cell"] == text
    assert set(table.loc[table["place"] == "best", "method"]) == {"Task arithmetic (delta)"}
    assert len(table) == table["method"].nunique() * table["column"].nunique()


def test_under_the_table_stands_what_it_could_have_shown(one_seed: Path) -> None:
    sweep = load_sweep(one_seed)
    comparisons, _ = against_baseline(sweep)
    table = build_table(sweep, comparisons)
    assert set(table.detectable) == {column.name for column in table.columns}
    assert table.detectable["drug_cell"] > table.detectable["cross_modal_mean"]  # twice the questions
    text = (one_seed / "table.md").read_text()
    assert f"p < 0.05 after correction for {len(comparisons)} comparisons), in points: Drug" in text


def test_a_table_without_es_has_it_too(tmp_path: Path) -> None:
    for name, rate in {"base": 0.5, "average": 0.6, "ties": 0.7}.items():
        add_run(tmp_path, name, name, rate, n=50)
    tabulate(tmp_path)
    text = (tmp_path / "table.md").read_text()
    assert "80 % power at p < 0.05 after correction for 7 comparisons), in points: Drug" in text
    assert "significantly above / below the best merge of the column" in text and "the table's 7 comparisons" in text


def test_cells_are_percent_with_the_stored_interval(one_seed: Path) -> None:
    tabulate(one_seed)
    lines = (one_seed / "results.csv").read_text().splitlines()
    fields = next(line.split(",") for line in lines if line.startswith("base_0") and ",drug_cell,accuracy," in line)
    value, low, high = (f"{100 * float(number):.1f}" for number in fields[9:12])
    assert md_rows(one_seed)["Base model"]["Drug\N{EN DASH}cell"] == f"{value} [{low}, {high}]"


def test_a_control_is_never_best(tmp_path: Path) -> None:
    add_run(tmp_path, "es", "es", 0.6, n=50)
    add_run(tmp_path, "es_noise", "es_noise", 0.9, n=50)
    add_run(tmp_path, "average", "average", 0.6, n=50)
    add_run(tmp_path, "finetuned", "finetuned", 0.95, n=50)
    tabulate(tmp_path)
    bold = {title for title, row in md_rows(tmp_path).items() if any("**" in text for text in row.values())}
    assert bold == {"ES-Merging", "Average"}  # equals are both bold


def test_marks_follow_the_corrected_test(tmp_path: Path) -> None:
    add_run(tmp_path, "average", "average", 0.6, n=300)
    add_run(tmp_path, "es_a", "es", 0.9, n=300, granularity="joint")
    add_run(tmp_path, "es_b", "es", 0.3, n=300, granularity="layer")
    add_run(tmp_path, "es_c", "es", 0.605, n=300, granularity="element")
    tabulate(tmp_path)
    rows = md_rows(tmp_path)
    column = "Drug\N{EN DASH}cell"
    assert rows["ES-Merging (joint)"][column].endswith("\N{BLACK UP-POINTING TRIANGLE}")
    assert rows["ES-Merging (layer)"][column].endswith("\N{BLACK DOWN-POINTING TRIANGLE}")
    assert rows["ES-Merging (element)"][column].endswith("]")


def test_several_seeds_show_mean_and_deviation(tmp_path: Path) -> None:
    sweep = usual_sweep(tmp_path, seeds=(0, 1, 2), n=100)
    tabulate(sweep)
    assert md_rows(sweep)["Base model"]["Drug\N{EN DASH}protein"] == "60.0 \N{PLUS-MINUS SIGN} 1.0"
    assert "standard deviation over seeds" in (sweep / "table.md").read_text()
    assert r"$\pm$" in (sweep / "table.tex").read_text()


def test_latex_is_balanced_and_escaped(tmp_path: Path) -> None:
    suite = {"a_b": ("A_b & 50% #1", "cross_modal"), "c": ("C", "cross_modal")}
    add_run(tmp_path, "average", "average", 0.6, n=50, suite=suite)
    add_run(tmp_path, "es", "es", 0.6, n=50, suite=suite, granularity="joint", merge_space="delta")
    tabulate(tmp_path)
    text = (tmp_path / "table.tex").read_text()
    assert r"A\_b \& 50\% \#1" in text
    begins, ends = re.findall(r"\\begin{(\w+)}", text), re.findall(r"\\end{(\w+)}", text)
    assert begins == ends[::-1]
    bare = re.sub(r"\\[{}&%$#_]", "", text)
    assert bare.count("{") == bare.count("}") and bare.count("$") % 2 == 0
    assert text.isascii() and "_" not in bare
    widths = re.search(r"\\begin{tabular}{(l[r]+)}", text)
    body = text[text.index(r"\toprule") : text.index(r"\bottomrule")]
    lines = [line for line in re.sub(r"\\&", "", body).splitlines() if line.endswith(r"\\")]
    for line in lines:
        spans = [int(span) for span in re.findall(r"\\multicolumn{(\d+)}", line)]
        assert line.count("&") + 1 - len(spans) + sum(spans) == len(widths[1])
    assert len(lines) > 4


def test_markdown_rows_have_one_cell_per_column(one_seed: Path) -> None:
    tabulate(one_seed)
    lines = [line for line in (one_seed / "table.md").read_text().splitlines() if line.startswith("|")]
    assert len({line.count("|") for line in lines}) == 1


@pytest.fixture()
def paper_sweep(tmp_path: Path) -> Path:
    suite = {"bindingdb": ("BindingDB", "cross_modal"), "drug_cell": SUITE["drug_cell"]}
    for method, axes in {
        "base": {},
        "average": {"merge_space": "factors"},
        "es": {"granularity": "joint", "merge_space": "factors"},
    }.items():
        add_run(tmp_path, method, method, 0.6, n=50, suite=suite, **axes)
    add_run(tmp_path, "es_d", "es", 0.6, n=50, suite=suite, granularity="joint", merge_space="delta")
    return tmp_path


def test_published_numbers_stand_beside_matching_names_only(paper_sweep: Path) -> None:
    tabulate(paper_sweep)
    rows = md_rows(paper_sweep)
    header = "BindingDB, published\N{DAGGER}"
    assert rows["ES-Merging (joint, factors)"][header] == "66.0"
    table = pd.read_csv(paper_sweep / "table.csv").set_index(["method", "column"])
    assert table.loc[("ES-Merging (joint, factors)", "bindingdb"), "published"] == 0.66
    assert "arXiv" in table.loc[("ES-Merging (joint, factors)", "bindingdb"), "source"]
    assert rows["ES-Merging (joint, delta)"][header] == "\N{EN DASH}"  # the paper merges factors
    assert not any("Drug\N{EN DASH}cell, published" in column for column in rows["Base model"])
    assert "as reported, secondary source" in (paper_sweep / "table.md").read_text()


def published_beside(
    folder: Path, titles: dict[str, str], **terms: object
) -> tuple[str, str, dict[str, dict[str, str]]]:
    """Markdown, LaTeX and rows of a sweep of these benchmarks, asked on these terms."""
    suite = {name: (title, "cross_modal") for name, title in titles.items()}
    for method, axes in {"base": {}, "es": {"granularity": "joint", "merge_space": "factors"}}.items():
        add_run(folder, method, method, 0.6, n=50, suite=suite, terms=terms, **axes)
    tabulate(folder)
    return (folder / "table.md").read_text(), (folder / "table.tex").read_text(), md_rows(folder)


@pytest.mark.parametrize(
    ("title", "terms", "reason"),
    [
        ("Human", {"limit": 50, "split": "published"}, "Human: at most 50 test questions (benchmark.limit=50)."),
        ("Human", {"limit": None, "split": "random"}, "Human: split made here (benchmark.split=random)."),
        ("Human (subset)", {"limit": None, "split": "published"}, "Human (subset): table: subset."),
        (
            "Human (pairs of mine only)",
            {"limit": 9, "split": "cold_drug"},
            "Human (pairs of mine only): table: pairs of mine only, at most 9 test questions (benchmark.limit=9), "
            "split made here (benchmark.split=cold_drug).",
        ),
    ],
)
def test_other_questions_than_the_published_ones_have_a_footnote(
    tmp_path: Path, title: str, terms: dict[str, object], reason: str
) -> None:
    text, latex, rows = published_beside(tmp_path, {"human": title}, **terms)
    assert f"- \N{DOUBLE DAGGER} Not the questions of the published number, do not compare. {reason}" in text
    assert rows["ES-Merging (joint, factors)"][f"{title}, published\N{DAGGER}\N{DOUBLE DAGGER}"] == "62.0"
    assert r"publ.$^{\dagger\ddagger}$" in latex and r"$^{\ddagger}$ Not the questions" in latex and latex.isascii()


def test_the_published_questions_have_no_such_footnote(tmp_path: Path) -> None:
    text, latex, rows = published_beside(tmp_path, {"human": "Human"}, limit=None, split="published", shots=0)
    assert "\N{DOUBLE DAGGER}" not in text and "ddagger" not in latex
    assert rows["ES-Merging (joint, factors)"]["Human, published\N{DAGGER}"] == "62.0"


def test_a_published_mean_names_the_parts_that_differ(tmp_path: Path) -> None:
    titles = {"bindingdb": "BindingDB (subset)", "human": "Human", "biosnap": "BioSNAP"}
    text, _, rows = published_beside(tmp_path, titles, limit=None, split="published")
    assert "do not compare. BindingDB (subset): table: subset.\n" in text
    heads = list(rows["Base model"])
    assert sum("published\N{DAGGER}\N{DOUBLE DAGGER}" in head for head in heads) == 2  # BindingDB and the mean
    assert "Molecule\N{EN DASH}protein mean, published\N{DAGGER}\N{DOUBLE DAGGER}" in heads
    assert "Human, published\N{DAGGER}" in heads


def test_no_published_column_without_a_match(one_seed: Path) -> None:
    tabulate(one_seed)
    assert "published" not in (one_seed / "table.md").read_text()


def test_published_methods_without_a_row_get_their_own(
    paper_sweep: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    head = "method,granularity,merge_space,title,benchmark,metric,value,source\n"
    lines = "best_single,,,Best single specialist,bindingdb,accuracy,61.5,s\nbase,,,Base,bindingdb,accuracy,57.5,s\n"
    path = write_text(tmp_path / "p.csv", head + lines)
    monkeypatch.setattr("esmerge.report.tables.read_published", lambda: published.read_published(path))
    monkeypatch.setattr("esmerge.report.tables.read_sources", lambda: published.read_sources(path))
    tabulate(paper_sweep)
    rows = md_rows(paper_sweep)
    assert rows["Best single specialist"]["BindingDB"] == "\N{EN DASH}"
    assert rows["Best single specialist"]["BindingDB, published\N{DAGGER}"] == "61.5"
    assert rows["Base model"]["BindingDB, published\N{DAGGER}"] == "57.5"


def test_the_published_file_holds_the_papers_means() -> None:
    table, joint = published.read_published(), Published("es", "joint", "factors", "ES-Merging")
    assert table["molecule_protein_mean"][joint] == 65.7
    parts = [table[name][joint] for name in ("bindingdb", "human", "biosnap")]
    assert sum(parts) / 3 == pytest.approx(65.7, abs=0.05)


def test_published_names_and_titles_are_those_of_the_registry() -> None:
    published_methods = {method for methods in published.read_published().values() for method in methods}
    merges = {method for method in published_methods if method.method in MERGES.names()}
    assert {method.method for method in merges} == {"average", "ties", "emr", "pcb", "es"}
    assert all(MERGES.get(method.method).info.title == method.title for method in merges)


def test_a_published_number_is_shown_once() -> None:
    rows = [Row("es", RECORDS["es"], "joint", "factors", f"ES {i}", {"0": f"run_{i}"}) for i in range(2)]
    joint, ties = Published("es", "joint", "factors", "ES-Merging"), Published("ties", "", "", "TIES")
    methods, orphans = published.assign(rows, [joint, ties])
    assert methods == {"run_0": joint} and orphans == [ties]
    layer = replace(rows[0], granularity="layer")
    assert not joint.is_of(layer) and not joint.is_of(replace(rows[0], merge_space="delta")) and not ties.is_of(layer)
