"""What the user sees: the plan before the work, the folder of the result after it."""

from __future__ import annotations

from collections import Counter
from tempfile import gettempdir

from rich.console import Console
from rich.filesize import decimal
from rich.markup import escape
from rich.table import Table

from esmerge.adapters.lora import LoraState, some
from esmerge.experiment.standalone.plan import MergePlan
from esmerge.experiment.standalone.write import MergeResult
from esmerge.specialists.families.custom.experts import UNTRAINED, untrained

WORTH_SAYING = 1e-3  # of an update that a truncation cuts off


def show_plan(plan: MergePlan, console: Console | None = None) -> None:
    """Experts with their tensors, ranks and scales; then method, probe, memory and time."""
    screen = console or Console()
    grid = Table(title=f"Merge on {escape(plan.backbone)}", title_justify="left", header_style="bold")
    for column in ("expert", "tensors", "rank", "scale", "size", "number format"):
        grid.add_column(column)
    for name, state in plan.experts.items():
        grid.add_row(name, *_cells(state, plan.adapter_bytes()[name]))
    screen.print(grid)
    for line in _lines(plan):
        screen.print(line, soft_wrap=True, highlight=False, markup=False)


def show_result(plan: MergePlan, result: MergeResult, console: Console | None = None) -> None:
    """Where it lies and how it is loaded; which experts had nothing to give, whose first modules are read again."""
    screen = console or Console()
    screen.print(f"Written in {result.seconds:.1f} s: {result.folder}", soft_wrap=True, highlight=False, markup=False)
    if result.lost > WORTH_SAYING:
        line = f"truncated: {100 * result.lost:.1f} % of the update (its norm) is cut off; method.rank=exact keeps all"
        screen.print(line, soft_wrap=True, highlight=False, markup=False)
    for name in untrained(plan.experts):
        screen.print(f"{name}: {UNTRAINED}", soft_wrap=True, highlight=False, markup=False)
    for path in sorted(result.folder.iterdir()):
        screen.print(f"  {path.name} ({decimal(path.stat().st_size)})", highlight=False, markup=False)


def _cells(state: LoraState, size: int) -> list[str]:
    entries = state.header.values()
    ranks, scales = Counter(entry.rank for entry in entries), Counter(f"{entry.scale:g}" for entry in entries)
    formats = Counter(str(entry.a_dtype).removeprefix("torch.") for entry in entries)
    cells = [", ".join(map(str, values)) for values in (ranks, scales)]
    return [str(2 * len(entries)), *cells, decimal(size), ", ".join(formats)]


def _lines(plan: MergePlan) -> list[str]:
    spec, output = plan.request.spec, plan.request.output
    fine = f", granularity {spec.sweep.granularity.name}" if spec.uses_granularity else ""
    lines = [f"method {spec.method.name}{fine}, merge space {plan.space}, {plan.depth} layers"]
    lines += [f"{name} lacks {some(modules)}: updates of zero" for name, modules in plan.missing.items()]
    lines += [f"{name}: {remark}" for name, remark in plan.remarks()]
    if plan.samples:
        lines.append(f"probe: {plan.samples} samples, {plan.tokens} tokens")
    if measured := plan.measured_bytes():
        lines.append(
            f"measured at the probe: at most {decimal(measured)}; what is over a gigabyte goes to {gettempdir()}"
        )
    time = f"{'at least' if plan.is_fitted() else 'about'} {max(1, round(plan.seconds()))} s"
    lines.append(f"about {decimal(plan.memory())} of memory, {time}")
    product = "model" if output.bake else "adapter"
    lines.append(f"{product} of at least {decimal(plan.least_output())} to {output.folder}")
    return [*lines, "dry run: nothing is written"] if output.dry_run else lines
