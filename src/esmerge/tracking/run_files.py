"""What a run's folder holds, file by file: its method, predictions, metrics, costs, signals, settings."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from esmerge.core.errors import StoreError
from esmerge.core.methods import MethodKind, MethodRecord
from esmerge.core.text_files import read_text
from esmerge.storage.files import read_json, read_table, replacing, write_json, write_table

if TYPE_CHECKING:
    from torch import Tensor  # a report reads these files and does without torch

AXES = ("run", "specialists", "method", "granularity", "probe", "merge_space", "seed")
RESULT_COLUMNS = (*AXES, "benchmark", "metric", "value", "ci_low", "ci_high", "n")
NUMBERS = ("value", "ci_low", "ci_high")


class RunFiles:
    """The files of one run, ``outputs/<sweep>/<run>/``; whether to believe them says ``RunFolder``."""

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        self.coefficients = self.path / "coefficients.safetensors"

    @property
    def name(self) -> str:
        return self.path.name

    def write_method(self, record: MethodRecord) -> Path:
        """Say what the run's method is. It decides no result, so it may be written again for a run that is done."""
        return write_json(self.path / "method.json", asdict(record))

    def read_method(self) -> MethodRecord:
        """What the run's method is.

        Raises:
            StoreError: the folder does not say, or says it in other words.
        """
        path, remedy = self.path / "method.json", "run the sweep again (what is finished stays as it is)"
        if not path.exists():
            raise StoreError(f"{self.path} does not say what its method is, it has no {path.name}: {remedy}")
        try:
            stored = MethodRecord(**read_json(path))
            return replace(stored, kind=MethodKind(stored.kind))
        except (TypeError, ValueError) as error:
            raise StoreError(f"{path} says of its method what is not understood ({error}): {remedy}") from error

    def write_predictions(self, benchmark: str, predictions: pd.DataFrame) -> Path:
        """Store a finished benchmark's predictions, one row per example."""
        return write_table(self.path / "predictions" / f"{benchmark}.csv", predictions)

    def read_predictions(self, benchmark: str) -> pd.DataFrame | None:
        """The stored predictions, or None if that benchmark is not finished; ``score`` columns are numbers."""
        path = self.path / "predictions" / f"{benchmark}.csv"
        return read_table(path, numbers=("score",)) if path.exists() else None

    def write_metrics(self, rows: Sequence[Mapping[str, object]]) -> Path:
        """Store this run's rows of ``results.csv``; axes that do not apply may be absent or None."""
        unknown = sorted({key for row in rows for key in row} - set(RESULT_COLUMNS))
        if unknown:
            raise StoreError(f"metrics of {self.name} have column(s) {unknown}, expected {', '.join(RESULT_COLUMNS)}")
        return write_table(self.path / "metrics.csv", pd.DataFrame(list(rows), columns=list(RESULT_COLUMNS)))

    def read_metrics(self) -> pd.DataFrame:
        """This run's rows in the columns of ``results.csv``; axes are text, ``""`` where one does not apply."""
        path = self.path / "metrics.csv"
        frame = read_table(path, numbers=NUMBERS)
        if tuple(frame.columns) != RESULT_COLUMNS:
            raise StoreError(f"{path} has columns {list(frame.columns)}, expected {', '.join(RESULT_COLUMNS)}")
        return frame.astype({"n": int})

    def write_benchmarks(self, benchmarks: Mapping[str, Mapping[str, object]]) -> Path:
        """Store what was asked: benchmark -> ``title, family, labels, n, checksum, limit, split, shots`` and others."""
        return write_json(self.path / "benchmarks.json", benchmarks)

    def read_benchmarks(self) -> dict[str, dict[str, object]]:
        """What was asked; empty if nothing was stored."""
        path = self.path / "benchmarks.json"
        return read_json(path) if path.exists() else {}

    def write_coefficients(self, tensors: Mapping[str, Tensor]) -> Path:
        """Store merging weights under the names of ``Coefficients.tensors``."""
        from esmerge.storage.tensor_stream import write_tensors  # late: imports torch, which a report does without

        with replacing(self.coefficients) as partial:
            write_tensors(partial, tensors)
        return self.coefficients

    def write_costs(self, costs: Mapping[str, Mapping[str, float | None]]) -> Path:
        """Store what work cost: ``measuring`` and ``merging`` -> ``seconds`` and ``memory`` (MiB)."""
        return write_json(self.path / "costs.json", costs)

    def read_costs(self) -> dict[str, dict[str, float | None]]:
        """What was stored by ``write_costs``; empty for runs that merge nothing."""
        path = self.path / "costs.json"
        return read_json(path) if path.exists() else {}

    def write_layer_coefficients(self, rows: Sequence[Mapping[str, object]]) -> Path:
        """Write ``layer_coefficients.csv``: expert, layer, coefficient, and its standard errors."""
        return write_table(self.path / "layer_coefficients.csv", pd.DataFrame(rows))

    def write_layer_distances(self, rows: Sequence[Mapping[str, object]]) -> Path:
        """Write ``layer_distances.csv``: expert, modality, whether it is its own, layer, distance and increment."""
        return write_table(self.path / "layer_distances.csv", pd.DataFrame(rows))

    def read_layer_distances(self) -> pd.DataFrame | None:
        """What was stored by ``write_layer_distances``; None for runs without layer-wise coefficients."""
        path = self.path / "layer_distances.csv"
        if not path.exists():
            return None
        frame = read_table(path, numbers=("distance", "increment"))
        return frame.astype({"layer": int}).assign(own=frame["own"] == "True")

    def write_tuning(self, trials: pd.DataFrame) -> Path:
        """Store the trials of a tuned method: settings, and the validation accuracy they reached or the ``failure``."""
        return write_table(self.path / "tuning.csv", trials)

    def read_tuning(self) -> pd.DataFrame | None:
        """The trials, numbers and texts of failures; None for a run with published settings."""
        path = self.path / "tuning.csv"
        return pd.read_csv(io.StringIO(read_text(path))) if path.exists() else None

    def write_provenance(self, record: Mapping[str, object]) -> Path:
        """Store where the results came from."""
        return write_json(self.path / "provenance.json", record)

    def read_provenance(self) -> dict[str, object]:
        """Where the results came from; empty if nothing was stored."""
        path = self.path / "provenance.json"
        return read_json(path) if path.exists() else {}

    def write_inputs(self, record: Mapping[str, object]) -> Path:
        """Store what the run is made of, by content, so that a later command can tell whether that changed."""
        return write_json(self.path / "inputs.json", record)

    def read_inputs(self) -> dict[str, Any]:
        """What was stored by ``write_inputs``; empty if nothing was."""
        path = self.path / "inputs.json"
        return read_json(path) if path.exists() else {}

    def read_config(self) -> dict[str, object]:
        """The resolved configuration; empty if none was stored.

        Raises:
            StoreError: the file holds no settings.
        """
        path = self.path / "config.yaml"
        if not path.exists():
            return {}
        try:
            config = OmegaConf.to_container(OmegaConf.load(io.StringIO(read_text(path))))
        except (YAMLError, OmegaConfBaseException, OSError) as error:  # OSError: OmegaConf's for a file of one value
            reason = str(error).splitlines()[0]
            raise StoreError(f"{path} is damaged ({reason}): run the sweep again, which writes it anew") from error
        if not isinstance(config, dict):
            raise StoreError(f"{path} holds no settings by name: run the sweep again, which writes it anew")
        return {str(key): value for key, value in config.items()}
