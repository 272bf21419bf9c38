"""Results in the model cards of merged adapters, so that a hub shows them beside the weights."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import yaml

from esmerge.core.errors import StoreError
from esmerge.core.methods import MethodKind
from esmerge.report.load import SweepResults
from esmerge.storage.files import write_text

if TYPE_CHECKING:
    from huggingface_hub import EvalResult, ModelCardData

METRICS = {  # ours -> the hub's name
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced_accuracy",
    "macro_f1": "f1",
    "auroc": "roc_auc",
    "mcc": "matthews_correlation",
}
EMBEDDED, OURS, UNKNOWN = "textbook", "apache-2.0", "unknown"  # kind of specialists; licences in the hub's words
EXPERT_PATH = re.compile(r"specialists\.experts\.[^.]+(\.path)?")
try:  # the compiled reader and writer of YAML, where there are any
    from yaml import CSafeDumper as DUMPER
    from yaml import CSafeLoader as LOADER
except ImportError:
    from yaml import SafeDumper as DUMPER
    from yaml import SafeLoader as LOADER
# Results of an earlier report, as written here: they are made anew, and reading them takes as long as writing them.
STALE_RESULTS = re.compile(r"^model-index:[ \t]*\n(?:(?:[ \t]+|-[ \t]).*\n|\n)*", re.MULTILINE)
LINE = 1_000_000  # letters, so that none is broken
TASK = "text-classification"  # what the hub calls answering with one of a set of labels


def write_cards(sweep: SweepResults) -> list[Path]:
    """Put the results of every merged adapter, and what it was merged from, into its card; the text stays as it is.

    Merges that know the task have several adapters and one set of results, which is in none of their cards.

    Raises:
        StoreError: a card's front matter is damaged.
    """
    paths = []
    metrics = sweep.results[sweep.results["metric"].isin(METRICS)]
    results = {str(run): rows for run, rows in metrics.groupby("run", sort=False)}
    merges = [row for row in sweep.rows if row.kind not in (MethodKind.FLOOR, MethodKind.REFERENCE)]
    for row in merges:
        for run in row.runs.values():
            path = sweep.run(run).path / "adapter" / "README.md"
            if path.exists():
                data, text = read_card(path)
                _complete(data, run, evaluation(sweep, results[run]), sweep.configs[run])
                paths.append(write_text(path, card(data, text)))
    return paths


def read_card(path: Path) -> tuple[ModelCardData, str]:
    """A card's front matter (empty where it has none) without its results, and the text below it.

    Raises:
        StoreError: the front matter cannot be read.
    """
    from huggingface_hub import ModelCardData  # late: it takes a while to import

    remedy = "delete the run's adapter/ and run the sweep again"
    content = path.read_text(encoding="utf-8")
    start, *parts = content.split("---\n", 2)
    if start or len(parts) < 2:
        return ModelCardData(), content
    head, text = parts
    try:
        facts = _front_matter(head)
        facts.pop("model-index", None)
        return ModelCardData(**facts), text
    except (yaml.YAMLError, AttributeError, TypeError, ValueError) as error:
        raise StoreError(f"{path} has a front matter that cannot be read ({error}): {remedy}") from error


def _front_matter(head: str) -> dict[str, Any]:
    try:
        facts = LOADER(STALE_RESULTS.sub("", head)).get_single_data()  # a safe one: plain values alone
    except yaml.YAMLError:  # by another hand, e.g. with comments among the results
        facts = LOADER(head).get_single_data()
    return {} if facts is None else facts


def card(data: ModelCardData, text: str) -> str:
    """A card as ``huggingface_hub`` writes it, in a tenth of the time: results of many benchmarks are long."""
    head = yaml.dump(_facts(data), Dumper=DUMPER, sort_keys=False, allow_unicode=True, width=LINE)
    return f"---\n{head}---\n{text}"


def _facts(data: ModelCardData) -> dict[str, object]:
    facts: dict[str, object] = data.to_dict()  # type: ignore[no-untyped-call]
    return facts


def evaluation(sweep: SweepResults, rows: pd.DataFrame) -> list[EvalResult]:
    """A run's rows of ``results.csv`` as the hub's model index takes them; what is not defined is left out."""
    from huggingface_hub import EvalResult

    titles = {benchmark.name: benchmark.title for benchmark in sweep.benchmarks}
    return [
        EvalResult(
            task_type=TASK,
            dataset_type=str(row["benchmark"]),
            dataset_name=titles[str(row["benchmark"])],
            metric_type=METRICS[str(row["metric"])],
            metric_name=str(row["metric"]),
            metric_value=round(float(row["value"]), 6),
        )
        for row in rows.to_dict("records")
        if np.isfinite(pd.to_numeric(row["value"]))
    ]


def _complete(data: ModelCardData, run: str, results: list[EvalResult], config: Mapping[str, str]) -> None:
    data.model_name, data.eval_results = run, results or None
    data.tags = list(dict.fromkeys([*(data.tags or []), "merge"]))
    data.license = data.license or licence(config)
    bases = data.base_model if isinstance(data.base_model, list) else [data.base_model] * bool(data.base_model)
    named = [name for name in dict.fromkeys([*bases, *expert_paths(config)]) if is_hub_name(name)]
    if named:
        data["base_model_relation"] = "merge"
    data.base_model = named[0] if len(named) == 1 else named or None  # folders of this machine a hub refuses;
    # adapter_config.json has the backbone's


def licence(config: Mapping[str, str]) -> str:
    """The terms of a merge, as a hub names them: those that its experts' and its backbone's cards agree on.

    Args:
        config: of the run, flat.
    """
    folders = [*expert_paths(config), config.get("specialists.backbone.path", "")]
    if config.get("specialists.kind") == EMBEDDED:
        return OURS
    terms = {_stated(Path(folder) / "README.md") for folder in folders if folder}
    return terms.pop() if len(terms) == 1 else UNKNOWN


def expert_paths(config: Mapping[str, str]) -> list[str]:
    """Folders or hub names of experts that users brought."""
    keys = [key for key in config if EXPERT_PATH.fullmatch(key)]
    return [config[key] for key in keys]


def _stated(path: Path) -> str:
    try:
        return str(read_card(path)[0].license or UNKNOWN)
    except (OSError, StoreError):
        return UNKNOWN


def is_hub_name(name: str) -> bool:
    """Whether a backbone's name is one of a hub's, ``owner/name`` or ``name``, and no path."""
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]

    try:
        validate_repo_id(name)
    except HFValidationError:
        return False
    return not Path(name).exists()
