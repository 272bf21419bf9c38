"""The default sweep on the device, beside the same on the CPU: the same verdicts, accuracies within one point.

What was trained for the sweep on the CPU is taken over, so that both ask the same specialists; everything that comes
after it (probe, merges, scoring, fine-tuned references) is computed on each.
"""

from __future__ import annotations

import shutil
import subprocess
import time
from pathlib import Path

import pandas as pd
from benchmarks.gpu.background import CPU, DEVICE, EXIT_CODE, ROOT, command
from benchmarks.gpu.report import Report
from benchmarks.gpu.setting import Setting

from esmerge.merging.api import MERGES

POINT = 0.01
LEVEL = 0.005  # accuracies that near are called level
COMPUTED = ("predictions", "signals", "distances", "measures", "finetuned")  # kinds of the cache that are made anew
ROW = ["method", "granularity", "probe", "merge_space", "seed", "benchmark", "metric"]


def run(setting: Setting, report: Report) -> None:
    """Wait for the sweep on the CPU, run it on the device, compare."""
    waited = _wait(setting)
    report.note(f"Waited {waited:.0f} s for the sweep on the CPU, which ran beside the other parts.")
    cpu, device = setting.work / CPU, setting.work / DEVICE
    device.mkdir()
    for kind in (cpu / "cache").iterdir():
        if kind.name not in COMPUTED:
            shutil.copytree(kind, device / "cache" / kind.name)
    start = time.perf_counter()
    process = subprocess.run(
        command(device, setting.device, setting.small), cwd=ROOT, capture_output=True, text=True, check=False
    )
    last = " ".join((process.stderr + process.stdout).split())[-400:]
    report.check(
        f"sweep on {setting.device}", process.returncode == 0, f"exit code {process.returncode}", "exit code 0"
    )
    if process.returncode:
        raise RuntimeError(f"the sweep on {setting.device} failed: {last}")
    report.row("Seconds", sweep=setting.device, seconds=time.perf_counter() - start, remark="specialists taken over")
    compare(report, cpu / "results", device / "results")


def _wait(setting: Setting) -> float:
    """Seconds until the sweep on the CPU had ended; raises ``RuntimeError`` if it failed or takes too long."""
    start, ended = time.monotonic(), setting.work / CPU / EXIT_CODE
    while not ended.exists():
        if setting.left() < 5:
            raise RuntimeError("the sweep on the CPU is not done yet, so there is nothing to compare with")
        time.sleep(0.2)
    if int(ended.read_text()):
        log = (setting.work / "sweep_on_cpu.log").read_text(encoding="utf-8", errors="replace")
        raise RuntimeError(f"the sweep on the CPU failed: {' '.join(log.split())[-400:]}")
    return time.monotonic() - start


def compare(report: Report, cpu: Path, device: Path) -> None:
    """Accuracies, best merges and significance marks of two sweeps."""
    tables = [pd.read_csv(folder / "results.csv").drop(columns="run") for folder in (cpu, device)]
    joined = tables[0].merge(tables[1], on=ROW, how="outer", suffixes=("_cpu", "_device"), indicator=True)
    unmatched = int((joined["_merge"] != "both").sum())
    report.check("rows of results.csv on one side alone", unmatched == 0, unmatched, 0)
    accuracy = joined[(joined["metric"] == "accuracy") & (joined["_merge"] == "both")].copy()
    accuracy["gap"] = (accuracy["value_cpu"] - accuracy["value_device"]).abs()
    worst = accuracy.loc[accuracy["gap"].idxmax()]
    largest_gap = float(worst["gap"])
    report.check(
        f"accuracies, {len(accuracy)}",
        largest_gap <= POINT,
        f"{100 * largest_gap:.2f} points ({_name(worst)})",
        "within 1 point",
    )
    for _, row in accuracy.nlargest(5, "gap").iterrows():
        report.row("Accuracies furthest apart", what=_name(row), cpu=row["value_cpu"], device=row["value_device"])
    _best(report, accuracy[accuracy["method"].isin(MERGES.names())])
    marks = [_marks(folder) for folder in (cpu, device)]
    differing = sorted(key for key in marks[0].keys() | marks[1].keys() if marks[0].get(key) != marks[1].get(key))
    report.check(
        f"significance marks, {len(marks[0])}", not differing, "; ".join(differing[:3]) or "the same", "the same"
    )


def _best(report: Report, merges: pd.DataFrame) -> None:
    """Whether the best merge of every benchmark is the same, or level with it."""
    changed = []
    for benchmark, rows in merges.groupby("benchmark"):
        first, second = (rows.loc[rows[f"value_{side}"].idxmax()] for side in ("cpu", "device"))
        level = all(rows[f"value_{side}"].max() - row[f"value_{side}"] <= LEVEL
                    for side, row in (("cpu", second), ("device", first)))  # fmt: skip
        report.row(
            "Best merges", benchmark=benchmark, cpu=_name(first, False), device=_name(second, False), level=level
        )
        changed += [] if level else [str(benchmark)]
    report.check(
        "the best merge of each benchmark", not changed, ", ".join(changed) or "the same", "the same, or level"
    )


def _marks(folder: Path) -> dict[str, str]:
    """Comparison -> whether it is significant, and in which direction."""
    table = pd.read_csv(folder / "comparisons.csv")
    return {
        f"{row['column']}: {row['method']} against {row['against']}": (
            "level" if row["p_holm"] >= 0.05 else "above" if row["difference"] > 0 else "below"
        )
        for _, row in table.iterrows()
    }


def _name(row: pd.Series, benchmark: bool = True) -> str:
    parts = [row["method"], row["granularity"], row["merge_space"], *([row["benchmark"]] if benchmark else [])]
    return " ".join(str(part) for part in parts if not pd.isna(part))
