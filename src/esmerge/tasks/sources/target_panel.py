"""Does a molecule bind a protein: its target against a protein of a family that it is not known to bind."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import pandas as pd

from esmerge.core.errors import ConfigError, InputError
from esmerge.core.prompts import Benchmark, Reject
from esmerge.core.validation import at_least
from esmerge.data.families import protein_families
from esmerge.data.identity import MOLECULE
from esmerge.data.label_tables import relation_in_words
from esmerge.data.molecules import canonical_smiles
from esmerge.data.sequences import canonical_sequence
from esmerge.data.splits import uniform
from esmerge.data.tables import RowValidator, checksum, one_of, read_columns, shared, table_names, table_path
from esmerge.tasks.api import SOURCES, BenchmarkRequest
from esmerge.tasks.assemble import split_as
from esmerge.tasks.panel import Described, Named, PanelSettings, assemble_panel

VERB = "binds"
PAIR = ["molecule", "protein"]


@dataclass(frozen=True, kw_only=True)
class TargetPanelSettings(PanelSettings):
    """Settings of the panel of targets.

    Attributes:
        tables: files under the benchmark's root, whose positive rows are joined; pairs that contradict each other in
            one of them or between them are left out.
        columns: ``molecule``, ``protein`` and ``label`` -> the tables' column.
        label_values: the tables' labels, negative first.
        shared: share of 4-mers above which two proteins are of one family (``esmerge.data.families``).
        family_molecules: families that fewer molecules bind are left out.
        negatives: proteins drawn for each molecule of families that it is not known to bind, each as often as it is
            a target; the matched choice is made among them.
        split: ``cold_drug`` or ``scaffold``.
    """

    SPLITS: ClassVar[tuple[str, ...]] = ("cold_drug", "scaffold")
    REQUIRED: ClassVar[tuple[str, ...]] = ("molecule", "protein", "label")
    tables: list[str]
    columns: dict[str, str] = field(
        default_factory=lambda: {"molecule": "SMILES", "protein": "sequence", "label": "label"}
    )
    label_values: list[str] = field(default_factory=lambda: ["0", "1"])
    shared: float = 0.12
    family_molecules: int = 40
    negatives: int = 20

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least(self, "benchmark", 1, "family_molecules", "negatives")
        if not 0 <= self.shared < 1:
            raise ConfigError(f"benchmark.shared={self.shared:g} must be at least 0 and less than 1")


@SOURCES.register("target_panel", TargetPanelSettings)
def target_panel(settings: TargetPanelSettings, request: BenchmarkRequest) -> Benchmark:
    """Does this molecule bind this protein? Unobserved pairs count as no, as in the sets that these tables come from.
    A pair of which rows say yes and no is unsettled: it is not asked about, and none of its protein's family counts as
    unobserved with the molecule.

    In words a protein is its family, ``family 7`` (numbered by how many molecules bind it, the most first), and a
    molecule the families that it is known to bind and those of the proteins drawn against it: ``binds family 3, but
    not family 7 or family 12``. Both questions about a molecule have the same words, and the family of the question is
    among them; see ``cyp_panel``.

    Raises:
        ConfigError: settings that do not fit.
        InputError: a missing file or column, too many bad rows, or fewer than two families.
    """
    paths = [table_path(request.root, file, request.name) for file in settings.tables]
    positives, rejects = _positives(settings, paths)
    families = family_names(positives, settings)
    rare = ~positives["protein"].isin(list(families))
    few = positives.loc[rare & positives["settled"], "row"]
    rejects += [Reject(row, "too few molecules bind its protein's family") for row in few]
    bound = positives[~rare]
    observed = bound[bound["settled"]].drop(columns="settled").assign(answer=1)
    pairs = pd.concat([observed, _negatives(bound, families, settings.negatives, request.seed)], ignore_index=True)
    pairs = pairs.assign(family=pairs["protein"].map(families))
    frame = split_as(pairs[["row", "molecule", "answer"]], settings, request)
    frame = frame.assign(
        protein=pairs["protein"], group=pairs["family"], left=pairs["molecule"], right=pairs["protein"]
    )
    total = checksum(paths, request.name, settings.sha256)
    words = Described(lambda questions: binding_in_words(pairs, request.seed)), Named(families)
    return assemble_panel(frame, ("molecule", "protein"), words, settings, request, total, rejects)


def family_names(positives: pd.DataFrame, settings: TargetPanelSettings) -> dict[str, str]:
    """Protein -> the name of its family, for the families that enough molecules bind.

    Args:
        positives: ``molecule`` and ``protein`` of known pairs.

    Raises:
        InputError: there are fewer than two such families.
    """
    family_of = protein_families(list(positives["protein"].unique()), settings.shared)
    numbers = positives["protein"].map(family_of)
    counts = positives.groupby(numbers)["molecule"].nunique()
    frequent = sorted(counts.index[counts >= settings.family_molecules], key=lambda number: (-counts[number], number))
    if len(frequent) < 2:
        raise InputError(
            f"{len(frequent)} families of proteins are bound by benchmark.family_molecules={settings.family_molecules} "
            "molecules or more, expected two: lower it, or give larger tables"
        )
    names = {number: f"family {rank}" for rank, number in enumerate(frequent, start=1)}
    return {protein: names[number] for protein, number in family_of.items() if number in names}


def binding_in_words(pairs: pd.DataFrame, seed: int) -> dict[str, str]:
    """Molecule -> the families that it binds and that it does not.

    Args:
        pairs: ``molecule``, ``family`` and ``answer``.
    """
    answers: dict[str, dict[str, int]] = {}
    for molecule, family, answer in zip(pairs["molecule"], pairs["family"], pairs["answer"], strict=True):
        answers.setdefault(molecule, {})[family] = int(answer)
    return {molecule: relation_in_words(VERB, by_family, seed, molecule) for molecule, by_family in answers.items()}


def _positives(settings: TargetPanelSettings, paths: list[Path]) -> tuple[pd.DataFrame, list[Reject]]:
    """Pairs with a row that says yes, each once: ``row``, ``molecule``, ``protein`` and ``settled``, whether no row
    says no; and the rows that were refused, those among them that repeat or contradict one of any table."""
    from datasets import Dataset, concatenate_datasets  # a second of imports that embedded benchmarks do not need

    columns = {settings.columns[name]: name for name in ("molecule", "protein", "label")}
    molecule, protein, label = columns
    same = settings.identities(molecule=MOLECULE)
    listed, accepted, rejects = [], [], list[Reject]()
    for path, name in zip(paths, table_names(paths), strict=True):
        validator = RowValidator(read_columns(path, list(columns), name=name))
        validator.require(list(columns))
        validator.convert(label, one_of(label, settings.label_values))
        validator.convert(protein, canonical_sequence)
        validator.convert(molecule, canonical_smiles)
        validator.frame = validator.frame.rename(columns=columns)
        listed.append(validator.frame[validator.frame["label"] == 1])
        validator.distinct(PAIR, "label", same)
        validator.finish(settings.max_rejects)
        accepted.append(Dataset.from_pandas(validator.frame, preserve_index=False))
        rejects += validator.rejects
    across = RowValidator(concatenate_datasets(accepted))
    across.distinct(PAIR, "label", same)
    positives = pd.concat(listed, ignore_index=True).drop(columns="label")
    positives = positives[~shared(positives, same).duplicated(PAIR)]
    return positives.assign(settled=positives["row"].isin(across.frame["row"])), [*rejects, *across.rejects]


def _negatives(observed: pd.DataFrame, families: Mapping[str, str], count: int, seed: int) -> pd.DataFrame:
    """For each molecule up to ``count`` proteins of families that it is not known to bind.

    Proteins are drawn with the frequency that they have among known pairs, by the seed and the molecule alone.
    """
    targets = observed["protein"].sort_values().to_numpy()
    bound: dict[str, set[str]] = {}
    for molecule, protein in sorted(zip(observed["molecule"], observed["protein"], strict=True)):
        bound.setdefault(molecule, set()).add(families[protein])
    rows = []
    for molecule, known_families in bound.items():
        draws = (targets[int(uniform(f"{seed}:{molecule}:{number}") * len(targets))] for number in range(count))
        unobserved = dict.fromkeys(name for name in draws if families[name] not in known_families)
        rows += [(f"unobserved:{molecule}:{number}", molecule, name) for number, name in enumerate(unobserved)]
    return pd.DataFrame(rows, columns=["row", "molecule", "protein"]).assign(answer=0)
