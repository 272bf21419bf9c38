"""Results in the model cards of merged adapters, so that a hub shows them beside the weights."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

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
TASK = "text-classification"  # what the hub calls answering with one of a set of labels


def write_cards(sweep: SweepResults) -> list[Path]:
    """Put the results of every merged adapter, and what it was merged from, into its card; the text stays as it is.

    Merges that know the task have several adapters and one set of results, which is in none of their cards.
    """
    from huggingface_hub import ModelCard  # late: it takes a while to import

    written = []
    merges = [row for row in sweep.rows if row.kind not in (MethodKind.FLOOR, MethodKind.REFERENCE)]
    for row in merges:
        for run in row.runs.values():
            path = sweep.run(run).path / "adapter" / "README.md"
            if path.exists():
                card = ModelCard.load(path)
                _complete(card.data, run, evaluation(sweep, run))
                written.append(write_text(path, str(card)))
    return written


def evaluation(sweep: SweepResults, run: str) -> list[EvalResult]:
    """A run's metrics as the hub's model index takes them; those that are not defined are left out."""
    from huggingface_hub import EvalResult

    titles = {benchmark.name: benchmark.title for benchmark in sweep.benchmarks}
    rows = sweep.results[(sweep.results["run"] == run) & sweep.results["metric"].isin(METRICS)]
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


def _complete(data: ModelCardData, run: str, results: list[EvalResult]) -> None:
    data.model_name, data.eval_results = run, results or None
    data.tags = list(dict.fromkeys([*(data.tags or []), "merge"]))
    base = str(data.base_model or "")
    if is_hub_name(base):
        data["base_model_relation"] = "merge"
    elif base:  # a folder of this machine, which a hub refuses; adapter_config.json has it, too
        data.base_model = None


def is_hub_name(name: str) -> bool:
    """Whether a backbone's name is one of a hub's, ``owner/name`` or ``name``, and no path."""
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]

    try:
        validate_repo_id(name)
    except HFValidationError:
        return False
    return not Path(name).exists()
