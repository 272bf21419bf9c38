"""Does a molecule inhibit an enzyme: each molecule once with an isoform it inhibits, once with one it does not."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import pandas as pd

from esmerge.core.errors import ConfigError
from esmerge.core.prompts import Benchmark
from esmerge.data.enzymes import SEQUENCES, enzyme_sequence
from esmerge.data.identity import MOLECULE
from esmerge.data.label_tables import read_labels, relation_in_words
from esmerge.data.tables import checksum, table_path
from esmerge.tasks.api import SOURCES, BenchmarkRequest
from esmerge.tasks.assemble import split_as
from esmerge.tasks.panel import Described, Named, PanelSettings, assemble_panel

VERB = "inhibits"


@dataclass(frozen=True, kw_only=True)
class CypPanelSettings(PanelSettings):
    """Settings of the panel of enzymes.

    Attributes:
        tables: enzyme, a name in ``src/esmerge/data/cyp_sequences.csv`` -> its file under the benchmark's root.
        columns: ``molecule`` and ``label`` -> the tables' column.
        label_values: the tables' labels, negative first.
        split: ``cold_drug``, as the benchmarks of single enzymes have it, or ``scaffold``: test molecules have new
            scaffolds. Both depend on the seed and the molecule alone.
    """

    SPLITS: ClassVar[tuple[str, ...]] = ("cold_drug", "scaffold")
    REQUIRED: ClassVar[tuple[str, ...]] = ("molecule", "label")
    tables: dict[str, str]
    columns: dict[str, str] = field(default_factory=lambda: {"molecule": "SMILES", "label": "label"})
    label_values: list[str] = field(default_factory=lambda: ["0", "1"])

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.tables) < 2:
            raise ConfigError(
                f"benchmark.tables names {', '.join(self.tables) or 'no enzyme'}: a panel needs two or more"
            )


@SOURCES.register("cyp_panel", CypPanelSettings)
def cyp_panel(settings: CypPanelSettings, request: BenchmarkRequest) -> Benchmark:
    """Does this molecule inhibit this enzyme, which is given by its sequence?

    In words the enzyme is its name, and the molecule what all tables say of it: ``inhibits CYP1A2 and CYP2D6, but not
    CYP2C9``, or as a record ``CYP2C9 No, CYP1A2 Yes, CYP2D6 Yes``. The enzyme of the question is among them, and the
    two questions about a molecule have the same words. So the description alone says nothing of the answer; who knows
    which enzyme the sequence is can look it up, and a model can be taught to. A description without that enzyme would
    give the answer away: of a molecule that inhibits one of two, what is left would be the opposite of what is asked.

    Raises:
        ConfigError: an unknown enzyme, or settings that do not fit.
        InputError: a missing file or column, or too many bad rows in a table.
    """
    sequences = {enzyme: enzyme_sequence(enzyme) for enzyme in settings.tables}
    paths = {enzyme: table_path(request.root, file, request.name) for enzyme, file in settings.tables.items()}
    columns = (settings.columns["molecule"], settings.columns["label"])
    same = settings.identities(**{columns[0]: MOLECULE})
    labels = read_labels(paths, columns, settings.label_values, settings.max_rejects, same)
    # Split before the enzyme is added: it must not enter the key, or sides would differ between enzymes.
    frame = split_as(labels.frame, settings, request)
    frame = frame.assign(
        protein=frame["name"].map(sequences), group=frame["name"], left=frame["molecule"], right=frame["name"]
    )
    names = {sequence: enzyme for enzyme, sequence in sequences.items()}
    total = checksum([*paths.values(), SEQUENCES], request.name, settings.sha256)
    words = Described(lambda questions: inhibition_in_words(labels.frame, request.seed)), Named(names)
    return assemble_panel(frame, ("molecule", "protein"), words, settings, request, total, labels.rejects)


def inhibition_in_words(labels: pd.DataFrame, seed: int) -> dict[str, str]:
    """Molecule -> which enzymes it inhibits and which not.

    Args:
        labels: ``molecule``, ``name`` and ``answer``.
    """
    answers: dict[str, dict[str, int]] = {}
    for molecule, name, answer in zip(labels["molecule"], labels["name"], labels["answer"], strict=True):
        answers.setdefault(molecule, {})[name] = int(answer)
    return {molecule: relation_in_words(VERB, by_name, seed, molecule) for molecule, by_name in answers.items()}
