"""From what a model wrote to the label it meant, or to nothing.

The answer is what follows ``Final answer:``, to the end of that line. It is read leniently in form (case, quotes,
punctuation, emphasis, contractions) and strictly in content: a line that affirms several labels, or denies or doubts
the one that it names, before it or after it, gives no answer. What cannot be told is wrong, never the opposite label.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from esmerge.core.errors import InputError
from esmerge.evaluation.denial import (
    CORRECTION,
    DENIAL,
    DENIED_MASK,
    DIRECT_DENIAL,
    FALSEHOOD,
    MASK,
    SCORE,
    SHARED_DENIAL,
    VERDICT,
    without_confirmations,
    without_contractions,
)

MARKER = re.compile(r"final\s+answer\W*?:", re.IGNORECASE)
# a reason ends what is answered as a full stop does
END = re.compile(
    r"[;!?]+|[.]+(?!\w)|(?<!\w)(?:because|since|due\s+to|given\s+that|owing\s+to)(?!\w)|,\s+as(?!\w)", re.I
)
DRESS = " \t\"'*_`"  # what may stand around an answer without being one
TYPOGRAPHY = str.maketrans({"’": "'", "‘": "'", "“": '"', "”": '"', "‐": "-", "‑": "-", "–": "-", "：": ":"})
# "no" before another word belongs to that word ("no evidence") and is no answer
DETERMINER = (
    r"(?!-\w|\.?\s*\d|\s+(?!(?:no|it|this|that|these|those|they|there|the|he|she|i|we|because|since|as|is|and|or|but)"
    r"(?!\w))\w)"
)


@dataclass(frozen=True, order=True)
class Mention:
    """A label that a line names.

    Attributes:
        start, end: in letters of the line.
        label: as the caller spells it.
    """

    start: int
    end: int
    label: str


@dataclass(frozen=True)
class Line:
    """An answer's line.

    Attributes:
        masked: the line with every label made ``MASK``, or ``DENIED_MASK`` where a denial stands directly before it.
        affirmed: mentions that no such denial and no question mark touches, in order.
        denied: labels of mentions that a denial touches.
    """

    masked: str
    affirmed: tuple[Mention, ...]
    denied: frozenset[str]


def parse_answer(text: str, labels: Sequence[str], prompt: str = "") -> str:
    """The label that a text answers with; ``""`` if it cannot be told.

    Args:
        text: what was generated.
        labels: the candidate answers; blanks around them do not matter.
        prompt: the end of the prompt. If ``Final answer:`` is its end, the answer is the beginning of ``text``, and
            a later ``Final answer:`` belongs to a question that the model asked itself.

    Returns:
        The label as it stands in ``labels``, without blanks around it: the one the line begins with, or else the only
        one that it names, in both cases unless the line denies it, doubts it or affirms another one beside it.

    Raises:
        InputError: two labels differ in case only, or one is blank.
    """
    line = without_confirmations(_answer_line(_plain(prompt), _plain(text)))
    mentions, masked = _mentions(line, _checked([label.strip() for label in labels]))
    answer = _read(masked, mentions)
    return _answer(answer) if answer else ""


def _answer(line: Line) -> str:
    """The first label that the line affirms, unless something else in it speaks against it."""
    if not line.affirmed:
        return ""
    first, others = line.affirmed[0], [mention for mention in line.affirmed if mention.label != line.affirmed[0].label]
    end = END.search(line.masked, first.end)
    sentence_end = end.start() if end else len(line.masked)
    before, after = line.masked[: first.start], line.masked[first.end : sentence_end]
    is_first_word = not re.search(r"\w", before.replace(DENIED_MASK, "x"))
    rivals = [mention for mention in others if mention.start < sentence_end or not is_first_word]
    if rivals or first.label in line.denied or DENIAL.search(before) or _speaks_against(after, first.label):
        return ""
    starts = [match.end() for match in END.finditer(line.masked, sentence_end)]
    for start, stop in pairwise([*starts, len(line.masked)]):
        rivals = [mention for mention in others if start <= mention.start < stop]
        if _takes_back(line.masked[start:stop], first.label, start, rivals):
            return ""
    return first.label


def _speaks_against(after: str, label: str) -> bool:
    """Whether the rest of a label's sentence denies it; ``No, it does not`` denies nothing."""
    if SCORE.match(after):
        return True
    if not _is_denial(label):
        return bool(DENIAL.search(after))
    return bool(re.search(r"\w", DENIAL.sub("", label)) and (VERDICT.match(after) or FALSEHOOD.search(after)))


def _takes_back(sentence: str, label: str, start: int, rivals: Sequence[Mention]) -> bool:
    """Whether a later sentence, which starts at a letter of the line, takes the label back; most only explain it."""
    rival_leads = any(not re.search(r"\w", sentence[: mention.start - start]) for mention in rivals)
    denial = DENIAL.search(sentence)
    denial_leads = denial is not None and not re.search(r"\w", sentence[: denial.start()])
    if rival_leads or (CORRECTION.match(sentence) and rivals):
        return True
    if _is_denial(label):
        return bool(FALSEHOOD.search(sentence) and re.search(r"\w", DENIAL.sub("", label)))
    return denial_leads or bool(FALSEHOOD.search(sentence)) or bool(denial and CORRECTION.match(sentence))


def _is_denial(label: str) -> bool:
    return DENIAL.search(_plain(label)) is not None


def _read(masked: str, mentions: Sequence[Mention]) -> Line | None:
    """What a line affirms and denies; None if it is a question, or a denial of which nobody can say how far it goes."""
    denied_starts = {match.start(1) for match in DIRECT_DENIAL.finditer(masked)}
    masked = DIRECT_DENIAL.sub(lambda match: DENIED_MASK * len(match[0]), masked)
    if SHARED_DENIAL.search(masked):
        return None
    affirmed = []
    for mention in sorted(mentions):
        if mention.start in denied_starts:
            continue
        end = END.search(masked, mention.end)
        if end is None or "?" not in end[0]:
            affirmed.append(mention)
        elif not re.search(r"\w", masked[: mention.start]) and re.search(r"\w", masked[mention.end : end.start()]):
            return None  # the line begins with a label and goes on to a question: which of them it answers is open
    denied = frozenset(mention.label for mention in mentions if mention.start in denied_starts)
    return Line(masked, tuple(affirmed), denied)


def _checked(labels: list[str]) -> list[str]:
    if "" in labels or len({_plain(label).casefold() for label in labels}) < len(labels):
        raise InputError(
            f"labels {', '.join(map(repr, labels))}: expected none to be blank and no two to differ in case only, "
            "since a generated answer is read without regard to case; use compute.scoring=loglik"
        )
    return labels


def _plain(text: str) -> str:
    plain = unicodedata.normalize("NFKC", text).translate(TYPOGRAPHY)
    return without_contractions(plain.replace(MASK, " ").replace(DENIED_MASK, " ").replace("!=", "≠"))


def _answer_line(prompt: str, text: str) -> str:
    """The first line that is not blank after the first marker; of the whole text if there is none."""
    ends = list(MARKER.finditer(prompt))
    prompt_ends_with_marker = bool(ends) and not prompt[ends[-1].end() :].strip()
    marker = None if prompt_ends_with_marker else MARKER.search(text)
    lines = text[marker.end() if marker else 0 :].splitlines()
    return next((line for line in lines if line.strip(DRESS)), "")


def _mentions(line: str, labels: Sequence[str]) -> tuple[list[Mention], str]:
    """Each label in the line, the longest first, and the line with every match made ``MASK``."""
    mentions = []
    for label in sorted(labels, key=len, reverse=True):
        for match in _pattern(label).finditer(line):
            mentions.append(Mention(match.start(), match.end(), label))
        line = _pattern(label).sub(lambda match: MASK * len(match[0]), line)
    return mentions, line


def _pattern(label: str) -> re.Pattern[str]:
    # only between words do blanks and dashes mean the same; at an end, a dash may be all that tells labels apart
    words = re.split(r"(?<=\w)[\s_-]+(?=\w)", _plain(label))
    pattern = r"[\s_-]+".join(map(re.escape, words))
    determiner = DETERMINER if label.casefold() == "no" else ""
    return re.compile(rf"(?<!\w){pattern}(?!\w){determiner}", re.IGNORECASE)
