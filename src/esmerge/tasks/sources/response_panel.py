"""Is a cell line unusually sensitive to a drug: matched over drugs and lines, so that neither alone says anything."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import ClassVar

import pandas as pd

from esmerge.core.errors import ConfigError
from esmerge.core.prompts import Benchmark, Reject
from esmerge.core.validation import at_least
from esmerge.data.joining import average_replicates, leave_out, read_names, resolve
from esmerge.data.label_tables import relation_in_words
from esmerge.data.molecules import canonical_smiles
from esmerge.data.sequences import gene_list
from esmerge.data.tables import RowValidator, checksum, read_columns, table_path
from esmerge.tasks.api import SOURCES, BenchmarkRequest
from esmerge.tasks.assemble import split_as
from esmerge.tasks.panel import CLEAR, Described, Named, PanelSettings, assemble_panel
from esmerge.tasks.sources.drug_response import response_columns

VERB = "is unusually sensitive to"


@dataclass(frozen=True, kw_only=True)
class ResponsePanelSettings(PanelSettings):
    """Settings of the panel of responses.

    Attributes:
        responses, drugs, cells: files under the benchmark's root: ``line``, ``drug`` and ``response``; ``compound`` and
            ``molecule``; ``cell`` and ``genes``.
        columns: these words -> the tables' columns.
        genes: how many of a cell's ranked genes the prompt holds.
        threshold: a pair is asked about where its departure (see ``departures``) is larger, of either sign.
        training_threshold: the same for ``training=every``.
        most_asked: so many drugs, those with the most pairs beyond ``threshold``; None for all.
        split: ``cold_cell``: test lines are new, drugs are not.
    """

    SPLITS: ClassVar[tuple[str, ...]] = ("cold_cell", "cold_drug", "scaffold")
    responses: str
    drugs: str
    cells: str
    columns: dict[str, str] = field(default_factory=response_columns)
    genes: int = 50
    threshold: float = 1.25
    training_threshold: float = 0.5
    most_asked: int | None = None
    split: str = "cold_cell"

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least(self, "benchmark", 1, "genes", "most_asked")
        if not 0 <= self.training_threshold <= self.threshold:
            raise ConfigError(
                f"benchmark.training_threshold={self.training_threshold:g} must lie between 0 and "
                f"benchmark.threshold={self.threshold:g}"
            )


@SOURCES.register("response_panel", ResponsePanelSettings)
def response_panel(settings: ResponsePanelSettings, request: BenchmarkRequest) -> Benchmark:
    """Is this cell line more sensitive to this drug than the line and the drug let expect?

    In words a drug is its name, and a line what the questions say of it: ``is unusually sensitive to Dasatinib, but not
    Nutlin-3a or Lapatinib``. The drug of the question is among them, and all questions about a line have the same
    words; see ``cyp_panel``. In the brief wording a line has as many records as its questions need. The name of a line
    would say nothing, since test lines are new.

    Raises:
        ConfigError: settings that do not fit.
        InputError: a missing file or column, or too many bad rows in any of the three tables.
    """
    files = (settings.responses, settings.drugs, settings.cells)
    paths = [table_path(request.root, file, request.name) for file in files]
    pairs, rejects = _responses(settings, paths)
    size = pairs["departure"].abs()
    pairs = pairs.assign(
        answer=(pairs["departure"] < 0).astype(int), group=pairs["line"], clear=size > settings.threshold
    )
    pairs = pairs.rename(columns={"clear": CLEAR})
    if settings.most_asked is not None:
        size = size[pairs["molecule"].isin(most_asked(pairs.loc[pairs[CLEAR], "molecule"], settings.most_asked))]
    pairs = pairs.loc[size.index[size > settings.training_threshold]]
    frame = split_as(pairs, settings, request).assign(left=pairs["molecule"], right=pairs["line"])
    names = dict(zip(pairs["molecule"], pairs["drug"], strict=True))
    words = Named(names), Described(lambda questions: sensitivities_in_words(questions, names, request.seed))
    total = checksum(paths, request.name, settings.sha256)
    return assemble_panel(frame, ("molecule", "cell"), words, settings, request, total, rejects)


def departures(responses: pd.Series, molecules: pd.Series, lines: pd.Series) -> pd.Series:
    """How far each response departs from what its drug and its line let expect, in standard deviations of the drug.

    ``z - mean(z of the line)``, ``z = (response - mean of the drug) / standard deviation of the drug``. Some lines are
    sensitive to most drugs; what is left says which drug acts on which line. Taken over all pairs, whatever their
    side: it defines the answer, which must not change with the seed. NaN where a drug has no two different responses.

    Args:
        responses: (n,) log IC50.
        molecules, lines: (n,) of each.
    """
    by_molecule = responses.groupby(molecules)
    scores = (responses - by_molecule.transform("mean")) / by_molecule.transform("std")
    return scores - scores.groupby(lines).transform("mean")


def most_asked(molecules: pd.Series, count: int) -> list[str]:
    """The molecules that occur most often, over all pairs, whatever their side: which they are defines the panel."""
    counts = molecules.value_counts()
    return sorted(counts.index, key=lambda molecule: (-counts[molecule], molecule))[:count]


def sensitivities_in_words(questions: pd.DataFrame, names: dict[str, str], seed: int) -> dict[str, str]:
    """Cell -> the drugs to which it is unusually sensitive and resistant.

    Args:
        questions: ``cell``, ``molecule`` and ``answer``.
        names: molecule -> the drug's name.
    """
    answers: dict[str, dict[str, int]] = {}
    for cell, molecule, answer in zip(questions["cell"], questions["molecule"], questions["answer"], strict=True):
        answers.setdefault(cell, {})[names[molecule]] = int(answer)
    return {cell: relation_in_words(VERB, by_drug, seed, cell) for cell, by_drug in answers.items()}


def _responses(settings: ResponsePanelSettings, paths: list[Path]) -> tuple[pd.DataFrame, list[Reject]]:
    """``row``, ``molecule``, ``drug``, ``cell``, ``line`` and ``departure`` of every pair; and what was refused."""
    columns, genes = settings.columns, partial(gene_list, count=settings.genes)
    line, drug, response = (columns[name] for name in ("line", "drug", "response"))
    molecules = read_names(paths[1], columns["compound"], columns["molecule"], canonical_smiles, settings.max_rejects)
    cells = read_names(paths[2], columns["cell"], columns["genes"], genes, settings.max_rejects)
    validator = RowValidator(read_columns(paths[0], [line, drug], [response]))
    validator.require([line, drug, response])
    resolve(validator, drug, molecules, "molecule")
    resolve(validator, line, cells, "cell")
    validator.finish(settings.max_rejects)
    validator.frame = validator.frame.rename(columns={line: "line", drug: "drug", response: "response"})
    replicates = average_replicates(validator, ["molecule", "line"], "response", "mean")
    measured = validator.frame
    measured = measured.assign(departure=departures(measured["response"], measured["molecule"], measured["line"]))
    validator.frame = measured
    alike = leave_out(validator, measured["departure"].isna(), "its drug has no two different responses to compare")
    return validator.frame, [*molecules.rejects, *cells.rejects, *validator.rejects, *replicates, *alike]
