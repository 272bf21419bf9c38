"""What the user sees of an extraction: what changed before the work, what the factors hold after it."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from esmerge.experiment.extraction.plan import ExtractionPlan, describe
from esmerge.experiment.extraction.write import REPORT, ExtractionResult


def show_comparison(plan: ExtractionPlan, console: Console | None = None) -> None:
    """How many modules are extracted, and what else changed."""
    screen = console or Console()
    settings = plan.settings
    lines = [
        f"{settings.tuned_folder} beside {plan.backbone}",
        f"{len(plan.modules)} linear layers changed; factors of rank {settings.rank} to {settings.folder}",
        *(f"left out: {name} ({describe(change)})" for name, change in plan.all_left_out.items()),
    ]
    if plan.tuned.others:
        lines.append(f"{len(plan.tuned.others)} tensors do not begin with {settings.part} and stay where they are")
    lines += ["dry run: nothing is written"] if settings.dry_run else []
    for line in lines:
        screen.print(line, soft_wrap=True, highlight=False, markup=False)


def show_residuals(result: ExtractionResult, console: Console | None = None) -> None:
    """The share of the updates' norm that the factors do not hold, by decoder layer."""
    screen = console or Console()
    grid = Table(title="Residual of the truncation", title_justify="left", header_style="bold")
    grid.add_column("layer")
    grid.add_column("residual", justify="right")
    for layer, residual in result.by_layer().items():
        grid.add_row(str(layer), f"{residual:.4f}")
    grid.add_row("all", f"{result.residual():.4f}")
    screen.print(grid)
    line = f"Written in {result.seconds:.1f} s: {result.folder}; {REPORT} says it for every module"
    screen.print(line, soft_wrap=True, highlight=False, markup=False)
