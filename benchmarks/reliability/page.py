"""The page: three tables, and the command that made them."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from benchmarks.reliability.rows import FaultRow, InputRow, table
from benchmarks.reliability.soak import SETTLED, Soak

HEAD = """# What sweeps survive

Made by `python -m benchmarks.reliability{words}`. Each fault is injected into a small sweep (one benchmark or two; the
embedded world after a handful of training steps) in a process of its own; then the same command is given again.
*Survived* means that `results.csv` is then, byte for byte, that of a sweep that nothing disturbed. *Lost* counts rows
that are absent or other, finished runs that were made twice, and temporary files that stay.

## Faults injected

{faults}
{injected} faults, {survived} survived, {lost} results lost.
"""

INPUTS = """
## Inputs fuzzed

{inputs}
{cases} inputs, {crashes} crashes other than a refusal.
"""

SOAK = """
## Soak

{runs} small runs through joblib (two workers), once undisturbed and once with kills: {kills} times a worker, or the
sweep with its workers, was killed at a random moment. The command was given {commands} times until it ended well:
{finished} runs done, {lost} rows of the results lost. Growth is the most that any of {workers} workers had more at its
end than after the first {settled} runs.

| of a worker, once warm | grew by |
| --- | ---: |
| resident memory | {memory} MiB |
| open handles | {handles} |
| temporary files left | {files} |

{seconds} s.
"""


def page(faults: Sequence[FaultRow], inputs: Sequence[InputRow], soaked: Soak | None, words: Sequence[str]) -> str:
    """The page as Markdown; a part that was not measured is left out."""
    text = HEAD.format(
        words=" " + shlex.join(words) if words else "",
        faults=table(faults) if faults else "None in this run.\n",
        injected=sum(row.injected for row in faults),
        survived=sum(row.survived for row in faults),
        lost=sum(row.lost for row in faults),
    )
    if inputs:
        cases, crashes = sum(row.cases for row in inputs), sum(row.crashes for row in inputs)
        text += INPUTS.format(inputs=table(inputs), cases=cases, crashes=crashes)
    if soaked is not None:
        text += SOAK.format(**vars(soaked), settled=SETTLED)
    return text
