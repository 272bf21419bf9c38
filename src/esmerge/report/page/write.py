"""``report.html``: verdict, tables, figures, questions, settings and provenance on one page that needs no network."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import pandas as pd
from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template

from esmerge import __version__
from esmerge.report.figures import Drawn
from esmerge.report.load import SweepResults
from esmerge.report.page.cells import PageTable
from esmerge.report.page.figures import page_figures
from esmerge.report.page.questions import BYTES, question_browser
from esmerge.report.page.records import last_finished, provenance_tables, runs_table, settings_tables
from esmerge.report.page.tables import comparisons_table, costs_table, metrics_table, results_table, retained_table
from esmerge.report.tables import ReportTable
from esmerge.storage.files import write_text

DATA = Path(__file__).parent / "data"
MOST_LETTERS, LEAST_LETTERS = 4_900_000, 300_000  # of the page, and of its questions however long the rest is
TEMPLATE, SCRIPT, STYLE = "report.html.j2", "report.js", "report.css"


@dataclass(frozen=True)
class Section:
    """A part of the page, linked from its head; ``tables`` without rows are left out."""

    name: str
    title: str
    tables: tuple[PageTable, ...]


def write_page(
    sweep: SweepResults,
    tables: Sequence[ReportTable],
    comparisons: pd.DataFrame,
    retention: pd.DataFrame,
    drawn: Drawn,
    verdict: str,
) -> Path:
    """Write ``report.html`` into the sweep folder.

    Args:
        tables: of published settings and, where there are any, of tuned ones.
        comparisons: the rows of ``comparisons.csv``.
        retention: the rows of ``retention.csv``.
        drawn: the figures, with their files.
        verdict: the paragraph that the page begins with.
    """
    numbers = [
        *(results_table(table, index) for index, table in enumerate(tables)),
        comparisons_table(comparisons, tables),
    ]
    extra_tables = [retained_table(retention, tables), costs_table(sweep), metrics_table(sweep)]
    origin = [*settings_tables(sweep), *provenance_tables(sweep)]
    style, script = ((DATA / file).read_text(encoding="utf-8") for file in (STYLE, SCRIPT))
    template = _template()
    facts = dict(
        name=sweep.folder.resolve().name,
        finished=last_finished(sweep),
        version=__version__,
        verdict=verdict,
        results=_section("results", "Results", numbers),
        later=[
            _section("numbers", "More numbers", extra_tables),
            _section("runs", "Runs", [runs_table(sweep)]),
            _section("origin", "Settings and provenance", origin),
        ],
        style=style,
        script=script,
        hashes={"style": _hash(style), "script": _hash(script)},
        figures=page_figures(drawn.paths, drawn.captions),  # last: they may still be in the making
    )
    free = MOST_LETTERS - len(template.render(browser=None, **facts))  # what tables and figures leave for questions
    browser = question_browser(sweep, min(BYTES, max(LEAST_LETTERS, free)))
    page = template.render(browser=browser, **facts)
    return write_text(sweep.folder / "report.html", page)


def _section(name: str, title: str, tables: Sequence[PageTable]) -> Section:
    return Section(name, title, tuple(table for table in tables if table.rows))


def _template() -> Template:
    environment = Environment(
        loader=FileSystemLoader(DATA), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.get_template(TEMPLATE)


def _hash(text: str) -> str:
    """As a page's Content-Security-Policy names the one style or script that it allows."""
    return f"sha256-{b64encode(sha256(text.encode()).digest()).decode()}"
