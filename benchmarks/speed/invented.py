"""An invented sweep, stored as a sweep stores itself, with answers drawn at random: for what only reads results."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from esmerge.adapters.card import card_text
from esmerge.core.methods import MethodKind, MethodRecord
from esmerge.core.names import layer_of
from esmerge.core.progress import progress
from esmerge.core.prompts import Benchmark, Entity, Example
from esmerge.evaluation.metrics import METRICS
from esmerge.tracking.questions import write_questions
from esmerge.tracking.store import RunFolder

YES_NO, KINDS = ("No", "Yes"), ("Steroid", "Peptide", "Saccharide", "Terpenoid", "Fatty acid", "Flavonoid")
BENCHMARKS = (  # name, title, family, labels, modalities: those of suite=all, which published numbers name
    *((f"cyp{e}_inhibition", f"CYP{e.upper()} inh.", "cross_modal", YES_NO, ("molecule", "protein"))
      for e in ("1a2", "2c9", "2c19", "2d6", "3a4")),
    *((f"cyp{e}_substrate", f"CYP{e.upper()} subs.", "cross_modal", YES_NO, ("molecule", "protein"))
      for e in ("1a2", "2c9", "2c19", "2d6", "3a4")),
    ("bindingdb", "BindingDB", "cross_modal", YES_NO, ("molecule", "protein")),
    ("biosnap", "BioSNAP", "cross_modal", YES_NO, ("molecule", "protein")),
    ("human", "Human", "cross_modal", YES_NO, ("molecule", "protein")),
    ("gdsc2", "GDSC2", "cross_modal", YES_NO, ("molecule", "cell")),
    ("drugcomb", "DrugComb", "cross_modal", YES_NO, ("molecule", "molecule", "cell")),
    ("ddi", "DrugBank DDI", "drug_drug", YES_NO, ("molecule", "molecule")),
    ("ddi_type", "DrugBank DDI type", "drug_drug", KINDS, ("molecule", "molecule")),
    ("molecule_logp", "logP", "retention", YES_NO, ("molecule",)),
    ("molecule_donors", "H-bond donors", "retention", YES_NO, ("molecule",)),
    ("molecule_kind", "Compound class", "retention", KINDS, ("molecule",)),
    ("protein_fold", "Fold class", "retention", KINDS, ("protein",)),
    ("protein_signal", "Signal peptide", "retention", YES_NO, ("protein",)),
    ("cell_type", "Cell type", "retention", KINDS, ("cell",)),
)  # fmt: skip
MORE_MERGES = {
    "breadcrumbs": "Breadcrumbs", "dare": "DARE", "della": "DELLA", "fisher": "Fisher merging", "iso_c": "Iso-C",
    "knots": "KnOTS", "pcb": "PCB-Merging", "regmean": "RegMean", "slerp": "SLERP", "tsv": "TSV-Merge",
}  # fmt: skip
ES = MethodRecord(MethodKind.ES, "ES-Merging", 0)
EXPERTS, LAYERS, MODULES = ("molecule", "protein", "cell"), 8, ("q_proj", "v_proj", "up_proj", "down_proj")
SHAPE = (8, 128)  # of a factor
RINGS = ("c1ccccc1", "c1ccncc1", "C1CCOCC1", "c1ccc2[nH]ccc2c1", "C1CCNCC1", "c1ccsc1")
LINKS = ("C(=O)N", "CC(=O)O", "S(=O)(=O)N", "CCN", "OCC", "C#CC", "NC(=O)C")
CAPS = ("c1ccccc1F", "C(F)(F)F", "CC(C)C", "c1ccc(Cl)cc1", "CCO", "C1CC1")
AMINO_ACIDS, GENES = list("ACDEFGHIKLMNPQRSTVWY"), [f"GENE{i}" for i in range(400)]
DIFFICULTY, LUCK = 0.9, 1.0  # spread of the questions, and of what no method can help


@dataclass(frozen=True)
class InventedRow:
    """One method under one set of settings, and how good it is, in standard deviations of a question's difficulty."""

    method: str
    record: MethodRecord
    skill: float
    granularity: str = ""
    merge_space: str = ""
    temperature: float = 0.5  # the published one
    scale: float = 1.0

    @property
    def is_merge(self) -> bool:
        return self.record.kind not in (MethodKind.FLOOR, MethodKind.REFERENCE)


def invented_rows(count: int) -> list[InventedRow]:
    """So many rows: floors, references, merges, controls and ES-Merging, as published and at ever more temperatures."""
    rows = [*_references(), *_merges(), *_published_es()]
    temperature = 0.1
    while len(rows) < count:
        rows.append(InventedRow("es", ES, 0.6 + 0.1 * temperature, "joint", "factors", temperature))
        temperature = round(temperature + 0.3, 3)
    return rows[:count]


def write_sweep(folder: Path, rows: Sequence[InventedRow], seeds: int, benchmarks: int, questions: int) -> int:
    """Store every row under every seed; returns the number of runs.

    Args:
        benchmarks: the first so many of ``BENCHMARKS``.
        questions: of each benchmark.
    """
    question_files = {name: _question_file(folder, index, questions) for index, (name, *_) in _chosen(benchmarks)}
    with progress("invented runs", len(rows) * seeds) as bar:
        for seed in range(seeds):
            for number, row in enumerate(rows):
                _write_run(folder, row, number, seed, question_files, questions)
                bar.update()
    return len(rows) * seeds


def _references() -> Iterator[InventedRow]:
    floors = {"majority": ("Majority class", 0.0), "group_mean": ("Group mean", 0.2), "drug_only": ("Drug only", 0.25),
              "partner_only": ("Partner only", 0.15), "random_forest": ("Random forest", 0.5)}  # fmt: skip
    for rank, (name, (title, skill)) in enumerate(floors.items()):
        yield InventedRow(name, MethodRecord(MethodKind.FLOOR, title, rank), skill)
    yield InventedRow("base", MethodRecord(MethodKind.REFERENCE, "Base model", 6), 0.1)
    for index, expert in enumerate(EXPERTS):
        record = MethodRecord(MethodKind.REFERENCE, f"{expert.capitalize()} specialist", 7)
        yield InventedRow(f"expert:{expert}", record, 0.3 + 0.05 * index)
    yield InventedRow("finetuned", MethodRecord(MethodKind.REFERENCE, "Fine-tuned", 8, finetuned=True), 1.0)


def _merges() -> Iterator[InventedRow]:
    for rank, (name, title) in enumerate({"average": "Average", "ties": "TIES", "emr": "EMR-Merging"}.items()):
        for space in ("factors", "delta"):
            yield InventedRow(name, MethodRecord(MethodKind.MERGE, title, rank), 0.35 + 0.1 * rank, "", space)
    for scale in (0.3, 0.4, 0.6, 0.8, 1.0):
        record = MethodRecord(MethodKind.MERGE, "Task arithmetic", 1)
        yield InventedRow("task_arithmetic", record, 0.7 - abs(scale - 0.6), "", "delta", scale=scale)
    for place, (name, title) in enumerate(MORE_MERGES.items()):
        yield InventedRow(name, MethodRecord(MethodKind.MERGE, title, 5), 0.4 + 0.03 * place, "", "delta")
    for name, title in {"es_shuffled": "ES, coefficients shuffled", "es_noise": "ES, noise for responses"}.items():
        yield InventedRow(name, MethodRecord(MethodKind.CONTROL, title, 1), 0.4, "joint", "factors")


def _published_es() -> Iterator[InventedRow]:
    for space in ("factors", "delta"):
        for granularity, skill in {"layer": 0.45, "element": 0.55, "joint": 0.6}.items():
            yield InventedRow("es", ES, skill, granularity, space)


def _chosen(benchmarks: int) -> list[tuple[int, tuple[str, str, str, tuple[str, ...], tuple[str, ...]]]]:
    return list(enumerate(BENCHMARKS[:benchmarks]))


def _write_run(
    folder: Path, row: InventedRow, number: int, seed: int, question_files: dict[str, str], questions: int
) -> None:
    name = f"{row.method.replace(':', '-')}-{number}-s{seed}"
    run, metrics, facts = RunFolder(folder / name), [], {}
    axes = {
        "run": name, "specialists": "invented", "method": row.method, "granularity": row.granularity, "seed": seed,
        "probe": "mixed" * bool(row.granularity), "merge_space": row.merge_space,
    }  # fmt: skip
    run.write_method(row.record)
    with run.lock(), run.working(_config(row, seed), f"{number:012x}"):
        for index, (benchmark, title, family, labels, _) in _chosen(len(question_files)):
            frame = answers(row.skill, labels, questions, index, seed, number)
            path = run.path / "predictions" / f"{benchmark}.csv"
            path.parent.mkdir(exist_ok=True)
            frame.to_csv(path, index=False)  # as the store writes it, but thousands of files do not wait for the disk
            metrics += [{**axes, "benchmark": benchmark, **of_metric} for of_metric in _metrics(frame)]
            facts[benchmark] = {"title": title, "family": family, "labels": labels, "n": questions, "limit": questions,
                                "checksum": f"{index}-{seed}", "split": "random", "shots": 0,
                                "questions": question_files[benchmark]}  # fmt: skip
        run.write_metrics(metrics)
        run.write_benchmarks(facts)
        if row.is_merge:
            _write_merge(run, row, seed)
    run.write_provenance({"version": "0", "libraries": {"torch": torch.__version__}, "time": f"{number} {seed}"})


def answers(skill: float, labels: Sequence[str], questions: int, benchmark: int, seed: int, row: int) -> pd.DataFrame:
    """Predictions: questions are hard for all methods or for none, and the rest is luck."""
    of_benchmark, of_run = (np.random.default_rng([9, benchmark, seed, *suffix]) for suffix in ([], [row + 1]))
    truth = of_benchmark.integers(0, len(labels), questions)
    ease = DIFFICULTY * of_benchmark.normal(size=questions)
    loglik = 0.5 * of_run.normal(size=(questions, len(labels)))
    loglik[np.arange(questions), truth] += skill + ease + LUCK * of_run.normal(size=questions)
    loglik -= np.logaddexp.reduce(loglik, axis=1, keepdims=True)
    predicted = loglik.argmax(axis=1)
    texts = [labels[index] for index in predicted]
    frame = pd.DataFrame(
        {
            "id": [f"{BENCHMARKS[benchmark][0]}-test-{i}" for i in range(questions)],
            "label": [labels[index] for index in truth],
            "prediction": texts,
            "score": np.exp(loglik[:, 1] if len(labels) == 2 else loglik.max(axis=1)),
            "raw_answer": texts,
        }
    )
    return frame.assign(**{f"score:{label}": loglik[:, index] for index, label in enumerate(labels)})


def _metrics(frame: pd.DataFrame) -> list[dict[str, object]]:
    """Accuracy with the interval of a normal distribution in place of resamples; other metrics are near it."""
    share, n = float((frame["label"] == frame["prediction"]).mean()), len(frame)
    half = 1.96 * np.sqrt(share * (1 - share) / n)
    return [
        {"metric": metric, "value": share - 0.001 * place, "ci_low": share - half, "ci_high": share + half, "n": n}
        for place, metric in enumerate(METRICS)
    ]


def _config(row: InventedRow, seed: int) -> dict[str, object]:
    return {
        "specialists": {"name": "invented", "experts": list(EXPERTS), "lora": {"rank": 8, "alpha": 32.0}},
        "method": {"name": row.method, "scale": row.scale, "rank": "exact", "fold_scales": False},
        "granularity": {"name": row.granularity, "temperature": row.temperature, "tau": 0.1, "projections": 1024},
        "probe": {"name": "mixed", "samples": 330, "batch_size": 2},
        "benchmark": {"limit": 1000, "split": "random", "shots": None},
        "merge_space": row.merge_space,
        "seed": seed,
    }


def _write_merge(run: RunFolder, row: InventedRow, seed: int) -> None:
    """Costs, a card, and for ES-Merging coefficients and distances."""
    cost = {"seconds": 1.0 + row.skill, "memory": 40.0}
    run.write_costs({"measuring": cost, "merging": {"seconds": 0.05 + 0.1 * row.scale, "memory": 3.0}})
    (run.path / "adapter").mkdir()
    card = card_text("adapter", "peft", ["lora"], "org/backbone", f"{row.record.title} of {', '.join(EXPERTS)}.", {})
    (run.path / "adapter" / "README.md").write_text(card, encoding="utf-8")
    if row.record.kind is not MethodKind.ES:
        return
    generator = np.random.default_rng([7, seed, round(100 * row.temperature)])
    run.write_coefficients(_coefficients(row, generator))
    run.write_layer_distances(list(_distances(generator)))


def _coefficients(row: InventedRow, generator: np.random.Generator) -> dict[str, torch.Tensor]:
    strength = 1.5 / (row.temperature + 0.2)
    shares = generator.dirichlet([4 / strength] * len(EXPERTS), size=LAYERS)
    tensors = {f"{name}.layer": torch.tensor(shares[:, i], dtype=torch.float32) for i, name in enumerate(EXPERTS)}
    names = [f"layers.{n}.self_attn.{module}.lora_A.weight" for n in range(LAYERS) for module in MODULES]
    for name in names if row.granularity != "layer" else ():
        spread = generator.dirichlet(8 * shares[layer_of(name)] + 0.2, size=SHAPE)
        tensors |= {f"{e}.{name}": torch.tensor(spread[..., i], dtype=torch.float32) for i, e in enumerate(EXPERTS)}
    return tensors


def _distances(generator: np.random.Generator) -> Iterator[dict[str, object]]:
    for expert in EXPERTS:
        for modality in EXPERTS:
            grown = generator.exponential(0.06 if modality == expert else 0.02, LAYERS).cumsum()
            for layer, added in enumerate(np.diff(grown, prepend=0.0)):
                yield {"expert": expert, "modality": modality, "own": modality == expert, "layer": layer,
                       "distance": grown[layer], "increment": added}  # fmt: skip


def _question_file(folder: Path, benchmark: int, questions: int) -> str:
    name, title, family, labels, modalities = BENCHMARKS[benchmark]
    generator = np.random.default_rng([5, benchmark])
    examples = []
    for i in range(questions):
        entities = [Entity(modality, _entity(modality, generator)) for modality in modalities]
        prompt = [part for entity in entities for part in (f" {entity.modality}: ", entity)]
        examples.append(Example(f"{name}-test-{i}", ("Entities are given.", *prompt, " Final answer:"), labels, 0))
    return write_questions(folder, Benchmark(name, title, family, labels, (), (), tuple(examples), ""))


def _entity(modality: str, generator: np.random.Generator) -> str:
    if modality == "molecule":
        return "".join(str(generator.choice(parts)) for parts in (RINGS, LINKS, RINGS, LINKS, CAPS))
    if modality == "protein":
        return "".join(generator.choice(AMINO_ACIDS, size=int(generator.integers(120, 500))))
    return " ".join(generator.choice(GENES, size=20, replace=False))
