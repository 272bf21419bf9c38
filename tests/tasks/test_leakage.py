from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from rdkit import Chem
from rdkit.Chem.Scaffolds.MurckoScaffold import MurckoScaffoldSmiles

from esmerge.cli.tasks.leakage_table import leakage_markdown
from esmerge.cli.tasks.main import dispatch as verbs
from esmerge.core.errors import ConfigError, InputError
from esmerge.core.prompts import Benchmark, Entity, Example
from esmerge.data.molecules import fingerprint
from esmerge.tasks.leakage import measure_leakage, similarities

POOL = [
    *("CCO", "CCN", "CCCO", "c1ccccc1", "Cc1ccccc1", "Oc1ccccc1", "c1ccncc1", "Cc1ccncc1", "C1CCCCC1", "CC1CCCCC1"),
    *("c1ccc2ccccc2c1", "Cc1ccc2ccccc2c1", "CC(=O)Oc1ccccc1C(=O)O", "CC(=O)Nc1ccc(O)cc1", "C[C@H](N)O", "C[C@@H](N)O"),
]


def example(answer: int, *entities: tuple[str, str], labels: int = 2) -> Example:
    prompt = tuple(segment for kind, value in entities for segment in ("and", Entity(kind, value)))
    return Example("row", prompt, tuple(map(str, range(labels))), answer)


def benchmark(train: list[Example], test: list[Example], labels: int = 2) -> Benchmark:
    names = tuple(map(str, range(labels)))
    return Benchmark("toy", "Toy", "cross_modal", names, tuple(train), (), tuple(test), "0")


def pair(answer: int, molecule: str, protein: str) -> Example:
    return example(answer, ("molecule", molecule), ("protein", protein))


def duo(answer: int, first: str, second: str) -> Example:
    return example(answer, ("molecule", first), ("molecule", second))


WORKED = benchmark(
    # toluene: labels 1 1 0, ethanol: 0; protein MA: 1 0, MB: 1 0
    [pair(1, "Cc1ccccc1", "MA"), pair(1, "Cc1ccccc1", "MB"), pair(0, "Cc1ccccc1", "MC"), pair(0, "CCO", "MA")],
    # toluene and ethanol are known, phenol only by its ring, ethylamine not at all
    [pair(1, "Cc1ccccc1", "MD"), pair(0, "CCO", "MB"), pair(1, "Oc1ccccc1", "MA"), pair(0, "CCN", "MD")],
)


def test_a_worked_example() -> None:
    report = measure_leakage(WORKED)
    overlaps = {
        overlap.kind: (overlap.train, overlap.test, overlap.shared, overlap.any_share, overlap.all_share)
        for overlap in report.overlaps
    }
    assert overlaps == {
        "molecule": (2, 4, 2, 0.5, 0.5),
        "protein": (3, 3, 2, 0.5, 0.5),
        "scaffold": (2, 4 - 1, 2, 0.75, 0.75),  # benzene for two of the four
        "whole question": (4, 4, 0, 0.0, 0.0),
    }
    drug, protein = report.baselines
    # 2/3 for the toluene example, 0 for ethanol; training's commonest label of 2 : 2 is the lower
    assert (drug.modality, drug.examples, drug.auroc, drug.accuracy, drug.majority) == ("molecule", 2, 1.0, 1.0, 0.5)
    # MB and MA both say 1 : 1 or 1 : 0; MA has labels 1 and 0, MB has 1
    assert (protein.examples, protein.auroc) == (2, 0.0)


def test_the_order_of_a_pair_does_not_hide_it() -> None:
    report = measure_leakage(benchmark([duo(1, "CCO", "CCN")], [duo(1, "CCN", "CCO"), duo(0, "CCO", "CCC")]))
    molecule, _, question = report.overlaps
    assert (molecule.shared, molecule.test, molecule.any_share, molecule.all_share) == (2, 3, 1.0, 0.5)
    assert (question.shared, question.any_share) == (1, 0.5)


def test_similarity_is_brute_force() -> None:
    queries, references = POOL[::2], POOL[1::2]
    bits = {smiles: fingerprint(smiles) for smiles in POOL}
    expected = [
        max(np.minimum(bits[a], bits[b]).sum() / np.maximum(bits[a], bits[b]).sum() for b in references)
        for a in queries
    ]
    assert similarities(queries, references, "toy") == pytest.approx(expected)


def test_stereoisomers_are_new_molecules_with_an_equal_fingerprint() -> None:
    report = measure_leakage(
        benchmark([pair(1, "C[C@H](N)O", "M")], [pair(1, "C[C@@H](N)O", "M"), pair(0, "c1ccccc1", "M")])
    )
    assert report.overlaps[0].shared == 0
    assert report.nearest is not None
    assert (report.nearest.molecules, report.nearest.equal, report.nearest.close) == (2, 0.5, 0.5)
    assert report.nearest.quantiles[2] == 0.5  # between 1 and 0


def brute_auroc(truth: list[int], scores: list[float]) -> float:
    positives = [score for label, score in zip(truth, scores, strict=True) if label]
    negatives = [score for label, score in zip(truth, scores, strict=True) if not label]
    return float(
        np.mean(
            [(positive > negative) + 0.5 * (positive == negative) for positive in positives for negative in negatives]
        )
    )


@pytest.mark.parametrize("seed", range(5))
def test_random_pairs_against_plain_loops(seed: int) -> None:
    draw = random.Random(seed)

    def examples(count: int) -> list[Example]:
        return [duo(draw.randrange(2), *draw.sample(POOL, 2)) for _ in range(count)]

    train, test = examples(12), examples(15)
    report = measure_leakage(benchmark(train, test))
    molecules = [[entity.value for entity in instance.entities()] for instance in test]
    training_molecules = {entity.value for instance in train for entity in instance.entities()}
    molecule, scaffolds, question = report.overlaps
    assert molecule.shared == len({value for values in molecules for value in values} & training_molecules)
    assert molecule.any_share == pytest.approx(
        np.mean([bool(training_molecules & set(values)) for values in molecules])
    )
    assert molecule.all_share == pytest.approx(np.mean([training_molecules >= set(values) for values in molecules]))
    test_molecules = {value for values in molecules for value in values}
    rings = [
        {MurckoScaffoldSmiles(mol=Chem.MolFromSmiles(s)) or s for s in values}
        for values in (training_molecules, test_molecules)
    ]
    counts = (scaffolds.train, scaffolds.test, scaffolds.shared)
    assert counts == (len(rings[0]), len(rings[1]), len(rings[0] & rings[1]))
    assert question.shared == len(
        {frozenset(v) for v in molecules} & {frozenset(e.value for e in o.entities()) for o in train}
    )
    truth, scores = [], []
    for instance, values in zip(test, molecules, strict=True):
        means = []
        for value in values:
            answers = [other.answer for other in train if value in [entity.value for entity in other.entities()]]
            means += [np.mean(answers)] if answers else []
        if means:
            truth.append(instance.answer)
            scores.append(float(np.mean(means)))
    (baseline,) = report.baselines
    assert baseline.examples == len(truth)
    if len(set(truth)) == 2:
        assert baseline.auroc == pytest.approx(brute_auroc(truth, scores))
    correct = [label == (score > 0.5) for label, score in zip(truth, scores, strict=True)]
    assert baseline.accuracy == pytest.approx(np.mean(correct))
    commonest = Counter(sorted(instance.answer for instance in train)).most_common(1)[0][0]
    assert baseline.majority == pytest.approx(np.mean([label == commonest for label in truth]))


def test_more_labels_have_an_accuracy_only() -> None:
    train = [example(n % 3, ("molecule", POOL[n % 3]), labels=3) for n in range(9)]
    test = [example(n % 3, ("molecule", POOL[n]), labels=3) for n in range(4)]
    (baseline,) = measure_leakage(benchmark(train, test, labels=3)).baselines
    assert np.isnan(baseline.auroc) and (baseline.examples, baseline.accuracy) == (3, 1.0)


def test_an_empty_split_is_refused() -> None:
    with pytest.raises(InputError, match="'toy' has no test examples"):
        measure_leakage(benchmark([pair(1, "C", "M")], []))
    with pytest.raises(InputError, match="'toy' has no training examples"):
        measure_leakage(benchmark([], [pair(1, "C", "M")]))


def test_cells_without_molecules_have_no_chemistry() -> None:
    report = measure_leakage(benchmark([example(1, ("cell", "TP53"))], [example(0, ("cell", "EGFR"))]))
    assert report.nearest is None and [overlap.kind for overlap in report.overlaps] == ["cell", "whole question"]
    assert np.isnan(report.baselines[0].accuracy)
    assert "| toy       | cell           | 1        | 1    | 0      | 0.000 |" in leakage_markdown([report])
    assert "| toy       | cell    | 0        | \N{EN DASH}     |" in leakage_markdown([report])


def test_long_entities_are_cut_with_their_length() -> None:
    chain, other = "M" * 60 + "K" * 90, "W" * 100
    report = measure_leakage(
        benchmark([pair(1, "CCO.Cl", chain), pair(0, "C", other)], [pair(1, "CCO", chain), pair(1, "C.Cl", other)])
    )
    table = leakage_markdown([report])
    assert chain not in table and chain[:41] not in table
    cut = f"protein {chain[:40]}… (150 letters)"
    assert f"molecule CCO + {cut} is molecule CCO.Cl + {cut}; molecule C.Cl + protein {other} is molecule C + " in table
    assert "CCO is CCO.Cl; C.Cl is C" in table


CONFIG = """\
name: toy
title: Toy
family: cross_modal
source: interactions
table: pairs.csv
prompt: {english: "{molecule} {protein} Final answer:"}
labels: {english: ["no", "yes"]}
max_rejects: 0.9
"""


def main(arguments: list[str]) -> None:
    verbs(["leakage", *arguments])


@pytest.fixture
def folder(tmp_path: Path, write: Callable) -> Path:
    """Tables, and the benchmark and the suite that are made of them."""
    write("suite/own.yaml", "name: own\nbenchmarks: [toy]\n")
    write("benchmark/toy.yaml", CONFIG)
    rows = "".join(f"{'C' * n}O,{'M' * (1 + n % 10)},{n % 2},{('train', 'val', 'test')[n % 3]}\n" for n in range(1, 31))
    write("pairs.csv", "SMILES,sequence,label,split\n" + rows)
    return tmp_path


@pytest.mark.parametrize(
    ("option", "shared"), [("suite=own", 10), ("benchmark=toy", 10), ("toy", 10), ("split=cold_target", 0)]
)
def test_a_suite_is_printed(option: str, shared: int, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main([f"root={folder}", f"config_dir={folder}", "suite=own", option])
    output = capsys.readouterr()
    protein = next(line for line in output.out.splitlines() if "| protein " in line)
    assert int(protein.split("|")[5]) == shared
    assert "reading toy" in output.err and "nearest molecules of toy" in output.err


def test_what_was_measured_survives_a_later_error(folder: Path, write: Callable, capsys: pytest.CaptureFixture) -> None:
    write("suite/both.yaml", "name: both\nbenchmarks: [toy, other]\n")
    write("benchmark/other.yaml", "defaults: [toy]\nname: other\ntable: none.csv\n")
    with pytest.raises(InputError, match="none.csv"):
        main([f"root={folder}", f"config_dir={folder}", "suite=both"])
    assert "| toy " in capsys.readouterr().out


def test_an_unknown_benchmark_is_refused_before_the_work(
    folder: Path, write: Callable, capsys: pytest.CaptureFixture
) -> None:
    write("suite/both.yaml", "name: both\nbenchmarks: [toy, other]\n")
    with pytest.raises(ConfigError, match="unknown benchmark 'other': expected one of bindingdb.* toy"):
        main([f"root={folder}", f"config_dir={folder}", "suite=both"])
    assert not capsys.readouterr().out


def test_wrong_options_are_named(folder: Path) -> None:
    with pytest.raises(ConfigError, match="unknown option rot: expected root"):
        main(["rot=x"])
    with pytest.raises(ConfigError, match="unknown suite 'none': expected one of all.* own"):
        main(["suite=none", f"config_dir={folder}"])
    with pytest.raises(ConfigError, match="split='cold_cell' must be one of published, random, cold_drug, cold_target"):
        main([f"root={folder}", f"config_dir={folder}", "suite=own", "split=cold_cell"])


def test_an_embedded_benchmark_is_refused(folder: Path, write: Callable) -> None:
    write("benchmark/toy.yaml", "name: toy\nsource: textbook\n")
    with pytest.raises(ConfigError, match="'toy' is not read from tables"):
        main(["suite=own", f"config_dir={folder}"])


def test_repeated_questions_end_in_an_error(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    repeated = benchmark([pair(1, "CCO", "M")], [pair(1, "CCO", "M")])
    monkeypatch.setattr("esmerge.cli.tasks.leakage.load_from_tables", lambda config, options: repeated)
    with pytest.raises(InputError, match=r"training holds too: toy \(1\)"):
        main(["suite=own", f"config_dir={folder}"])
