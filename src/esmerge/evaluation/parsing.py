"""From what a model wrote to the label it meant, or to nothing.

The answer is what follows ``Final answer:``, to the end of that line. It is read leniently in form (case, quotes,
punctuation, emphasis) and strictly in content: a line that repeats the choices, mentions several labels in a sentence,
or denies the one it mentions, gives no answer.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

from esmerge.core.errors import InputError

MARKER = re.compile(r"final\s+answer\W*?:", re.IGNORECASE)
DENIAL = re.compile(r"(?<!\w)(not|never|neither|nor|cannot|non)(?!\w)|n't(?!\w)", re.IGNORECASE)
CHOICE = re.compile(r"\0+[\s\"'*_`.)\]]*(/|\||,?\s*(?<!\w)(or|and)(?!\w))[\s\"'*_`(\[]*\0", re.IGNORECASE)
DRESS = " \t\"'*_`"  # what may stand around an answer without being one
TYPOGRAPHY = str.maketrans({"’": "'", "‘": "'", "“": '"', "”": '"', "‐": "-", "‑": "-", "–": "-", "：": ":"})


def parse_answer(text: str, labels: Sequence[str], prompt: str = "") -> str:
    """The label that a text answers with; ``""`` if it cannot be told.

    Args:
        text: what was generated.
        labels: the candidate answers; blanks around them do not matter.
        prompt: the end of the prompt. If ``Final answer:`` is its end, the answer is the beginning of ``text``, and
            a later ``Final answer:`` belongs to a question that the model asked itself.

    Returns:
        The label as it stands in ``labels``, without blanks around it: the one the line begins with, or else the only
        one that it names without denying it.

    Raises:
        InputError: two labels differ in case only, or one is blank.
    """
    line = _answer_line(_plain(prompt), _plain(text))
    mentions, remainder = _mentions(line, _checked([label.strip() for label in labels]))
    if not mentions:
        return ""
    first, label = min(mentions)
    several = len({name for _, name in mentions}) > 1
    if re.search(r"\w", line[:first]):  # the answer is somewhere in a sentence
        return "" if several or DENIAL.search(remainder) else label
    return "" if several and CHOICE.match(remainder[first:]) else label


def _checked(labels: list[str]) -> list[str]:
    if "" in labels or len({_plain(label).casefold() for label in labels}) < len(labels):
        raise InputError(
            f"labels {', '.join(map(repr, labels))}: expected none to be blank and no two to differ in case only, "
            "since a generated answer is read without regard to case; use compute.scoring=loglik"
        )
    return labels


def _plain(text: str) -> str:
    return unicodedata.normalize("NFKC", text).translate(TYPOGRAPHY).replace("\0", " ")


def _answer_line(prompt: str, text: str) -> str:
    """The first line that is not blank after the first marker; of the whole text if there is none."""
    ends = list(MARKER.finditer(prompt))
    prompt_ends_with_marker = bool(ends) and not prompt[ends[-1].end() :].strip()
    marker = None if prompt_ends_with_marker else MARKER.search(text)
    lines = text[marker.end() if marker else 0 :].splitlines()
    return next((line for line in lines if line.strip(DRESS)), "")


def _mentions(line: str, labels: Sequence[str]) -> tuple[list[tuple[int, str]], str]:
    """Start and name of each label in the line, the longest first, and the line with every match made ``\\0``."""
    mentions = []
    for label in sorted(labels, key=len, reverse=True):
        for match in _pattern(label).finditer(line):
            mentions.append((match.start(), label))
        line = _pattern(label).sub(lambda match: "\0" * len(match[0]), line)
    return mentions, line


def _pattern(label: str) -> re.Pattern[str]:
    # only between words do blanks and dashes mean the same; at an end, a dash may be all that tells labels apart
    words = re.split(r"(?<=\w)[\s_-]+(?=\w)", _plain(label))
    pattern = r"[\s_-]+".join(map(re.escape, words))
    return re.compile(rf"(?<!\w){pattern}(?!\w)", re.IGNORECASE)
