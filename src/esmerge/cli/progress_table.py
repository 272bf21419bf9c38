"""A sweep's progress as a table for a terminal, and as a line for a log."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from esmerge.tracking.survey import Phase, RunProgress, SweepProgress

SHOWN = 8  # running and failed runs that are shown with a line each
STYLES = {Phase.DONE: "green", Phase.RUNNING: "cyan", Phase.FAILED: "red", Phase.REMAINING: ""}
UNKNOWN = "?"


def progress_table(progress: SweepProgress) -> RenderableType:
    """How many runs stand where, the time left, and a line for each run that is running or has failed."""
    counts = Table(title=escape(f"{progress.folder}: {_state(progress)}"), title_justify="left", header_style="bold")
    for phase in Phase:
        counts.add_column(phase.value, justify="right", style=STYLES[phase])
    counts.add_column("elapsed", justify="right")
    counts.add_column("time left", justify="right")
    counts.add_row(*_numbers(progress), duration(progress.seconds), _left(progress))
    return Group(counts, *_details(progress))


def progress_line(progress: SweepProgress) -> str:
    """The same in one line."""
    numbers = ", ".join(f"{number} {phase}" for number, phase in zip(_numbers(progress), Phase, strict=True))
    ended = not (progress.of(Phase.RUNNING) or progress.of(Phase.REMAINING))
    return f"runs: {numbers}" + ("" if ended else f"; time left {_left(progress)}")


def progress_lines(progress: SweepProgress) -> list[str]:
    """What ``progress_table`` says, in lines without colours."""
    first = f"{progress.folder}: {_state(progress)}; elapsed {duration(progress.seconds)}"
    return [first, progress_line(progress), *(text.plain for text in _details(progress))]


def duration(seconds: float | None) -> str:
    """Such as ``2 h 05 min``, ``3 min 07 s`` and ``12 s``."""
    if seconds is None:
        return UNKNOWN
    minutes, remainder = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02d} min"
    return f"{minutes} min {remainder:02d} s" if minutes else f"{remainder} s"


def _numbers(progress: SweepProgress) -> list[str]:
    numbers = {phase: str(len(progress.of(phase))) for phase in Phase}
    if progress.is_search:
        numbers[Phase.REMAINING] = UNKNOWN
    return list(numbers.values())


def _left(progress: SweepProgress) -> str:
    if not (progress.is_search or progress.of(Phase.RUNNING) or progress.of(Phase.REMAINING)):
        return duration(0.0)
    seconds = progress.seconds_left()
    return UNKNOWN if seconds is None else f"about {duration(seconds)}"


def _state(progress: SweepProgress) -> str:
    if progress.at_work or progress.of(Phase.RUNNING):
        return "going on"
    return "stopped half-way" if progress.of(Phase.REMAINING) else "ended"


def _details(progress: SweepProgress) -> list[Text]:
    """Lines on the runs that are running, then on the last that failed."""
    running, failed = progress.of(Phase.RUNNING), progress.of(Phase.FAILED)
    runs = [*running[:SHOWN], *failed[-SHOWN:]]
    lines = [Text(_detail(run), style=STYLES[run.phase], overflow="ellipsis", no_wrap=True) for run in runs]
    hidden = len(running) + len(failed) - len(runs)
    return [*lines, Text(f"and {hidden} more")] if hidden else lines


def _detail(run: RunProgress) -> str:
    text = f"  {run.phase} {run.name} {duration(run.seconds)}"
    if run.reason is not None:
        text += f": {run.reason}"
    if run.step is not None:
        title = "" if run.step.title == run.name else f"{run.step.title} "
        text += f": {title}{run.step.done:g} of {run.step.total:g}"
    return text
