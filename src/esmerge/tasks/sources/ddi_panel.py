"""How do two drugs interact: does one change the level of the other, or do their effects meet? Matched over drugs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from esmerge.core.errors import ConfigError
from esmerge.core.prompts import Benchmark
from esmerge.data.joining import PAIR, leave_out
from esmerge.data.splits import left_out
from esmerge.data.tables import checksum
from esmerge.tasks.api import SOURCES, BenchmarkRequest
from esmerge.tasks.assemble import split_as
from esmerge.tasks.panel import Named, PanelSettings, assemble_panel
from esmerge.tasks.sources.drug_pairs import DRUGS, DrugPairSettings, read_interactions, same_molecules

MODALITIES = ("molecule", "molecule")


@dataclass(frozen=True, kw_only=True)
class DdiPanelSettings(DrugPairSettings, PanelSettings):
    """Settings of the panel of interaction types.

    Attributes:
        types: the types, as the table writes them, of each of the two answers; rows of others are left out.
        split: ``random``: test pairs are new, their drugs are not; what can be had of pairs of new drugs is too little
            to judge merges by (benchmarks/cards/ddi_panel.md).
    """

    SPLITS: ClassVar[tuple[str, ...]] = ("random", "cold_drug", "cold_one_drug", "scaffold")
    types: list[list[str]]
    split: str = "random"

    def __post_init__(self) -> None:
        super().__post_init__()
        types = [name for names in self.types for name in names]
        if len(self.types) != 2 or not all(self.types) or len(set(types)) < len(types):
            raise ConfigError(f"benchmark.types={self.types}: expected two lists of types, no type in both")


@SOURCES.register("ddi_panel", DdiPanelSettings)
def ddi_panel(settings: DdiPanelSettings, request: BenchmarkRequest) -> Benchmark:
    """Which of two kinds of interaction is that of these two drugs, given that they interact?

    In words a drug is its name in the table. It says nothing of the other drug, and a model can be taught what a drug
    of that name does, since every drug stands on all sides of the random split.

    Raises:
        ConfigError: settings that do not fit.
        InputError: a missing file or column, or too many bad rows.
    """
    interactions = read_interactions(settings, request, (*DRUGS, "type"))
    validator, kind = interactions.validator, settings.columns["type"]
    validator.distinct(PAIR, kind, same_molecules(settings))
    validator.finish(settings.max_rejects)
    answer_of = {name: answer for answer, names in enumerate(settings.types) for name in names}
    rejects = leave_out(validator, ~validator.frame[kind].isin(list(answer_of)), "its type is of neither answer")
    rows = validator.frame.assign(answer=validator.frame[kind].map(answer_of), group="")
    frame = split_as(rows, settings, request)
    rejects = [*interactions.drugs.rejects, *validator.rejects, *rejects, *left_out(rows, frame, settings.split)]
    frame = frame.assign(left=frame[PAIR[0]], right=frame[PAIR[1]])
    names = Named({molecule: name for name, molecule in interactions.drugs.values.items()})
    total = checksum(interactions.paths, request.name, settings.sha256)
    return assemble_panel(frame, MODALITIES, (names, names), settings, request, total, rejects)
