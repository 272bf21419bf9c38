"""Numbers and tables as Markdown."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.settled.scores import Difference, Score

ABSENT = "–"


def table(head: Sequence[str], lines: Sequence[Sequence[str]], words: int) -> str:
    """A table whose first ``words`` columns hold words and the others numbers; short lines are filled."""
    filled = [[*line, *[""] * (len(head) - len(line))] for line in lines]
    rule = "|" + "---|" * words + "---:|" * (len(head) - words)
    return "\n".join([_line(head), rule, *map(_line, filled)])


def percent(score: Score) -> str:
    """One decimal, and the interval."""
    return f"{100 * score.value:.1f} [{100 * score.low:.1f}, {100 * score.high:.1f}]"


def points(difference: Difference) -> str:
    """A difference in points and its interval; in bold where it is significant."""
    text = f"{100 * difference.value:+.1f} [{100 * difference.low:+.1f}, {100 * difference.high:+.1f}]"
    return bold(text, difference.significant)


def bold(text: str, is_bold: bool) -> str:
    """The text, in bold or not."""
    return f"**{text}**" if is_bold else text


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
