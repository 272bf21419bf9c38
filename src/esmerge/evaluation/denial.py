"""Words that take back a label, or that put it in doubt, as patterns over a line whose labels are masked.

The lists are wide on purpose: a word too many makes an answer unreadable, a word too few turns it into its opposite.
"""

from __future__ import annotations

import re

MASK = "\0"  # every letter of a label that a line names
DENIED_MASK = "\1"  # the same where a denial stands directly before it
WRAPPING = r"\s\"'*_`()\[\]"  # blanks, quotes, emphasis, brackets
ARTICLE = r"(?:an?|the|any)"

_WORDS = (
    "not never neither nor cannot non none nothing nobody nowhere no nope nah without",
    "unlikely improbable impossible implausible doubt doubts doubted doubtful questionable",
    "unclear uncertain unsure unknown unproven unable incapable whether unless except",
    "hardly barely scarcely rarely seldom little few fewer less least zero insufficient inadequate",
    "fail fails failed failing failure lack lacks lacked lacking absent absence ceases ceased",
    "false untrue incorrect wrong mistaken negative contrary opposite",
    "exclude excludes excluded deny denies denied reject rejects rejected refute refutes refuted disproved disproves",
)
_PHRASES = (
    r"ruled?\s+out",
    r"rules\s+out",
    r"far\s+from",
    r"anything\s+but",
    r"rather\s+than",
    r"instead\s+of",
    r"(?:low|lower|small|slim|slight|minimal)\s+(?:chance|probability|likelihood|odds|evidence|confidence)",
)
_ANY = "|".join([*" ".join(_WORDS).split(), *_PHRASES])
_SIGNS = "[✗✘✖❌❎🚫¬≠]"
# "un-sensitive", "!sensitive"; a prefix without a hyphen makes another word, which is no label
_PREFIX = rf"(?:(?:un|in|anti|dis|de)-|!)(?={MASK})"

DENIAL = re.compile(rf"(?<!\w)(?:{_ANY})(?!\w)|n't(?!\w)|{_SIGNS}", re.IGNORECASE)
FALSEHOOD = re.compile(
    r"(?<!\w)(?:false|untrue|incorrect|wrong|mistaken|not\s+(?:true|correct|right|so|the\s+case))(?!\w)", re.IGNORECASE
)
CORRECTION = re.compile(
    r"\W*(?:but|however|actually|wait|rather|instead|correction|sorry|no|on\s+second)(?!\w)", re.IGNORECASE
)
# "no" is left out: in "sensitive, no resistant" it corrects and does not deny
DIRECT_DENIAL = re.compile(
    rf"(?<!\w)(?:not|never|neither|nor|less|least|rather\s+than|instead\s+of|non|{_PREFIX})[{WRAPPING}-]*"
    rf"(?:{ARTICLE}\s+)?[{WRAPPING}]*({MASK}+)",
    re.IGNORECASE,
)
# "not A or B", "neither A nor B", "not A / B": the denial may reach B
SHARED_DENIAL = re.compile(
    rf"{DENIED_MASK}+[{WRAPPING}]*(?:/|\||,?\s*(?<!\w)(?:or|nor|and)(?!\w))[{WRAPPING}]*(?:{ARTICLE}\s+)?[{WRAPPING}]*{MASK}",
    re.IGNORECASE,
)
# what is said about the label directly after it: "Interacts: no", "Does not interact = false", "… is unlikely"
VERDICT = re.compile(
    rf"[{WRAPPING}]*(?:[:=(,-]|(?<!\w)(?:is|was|are|seems|looks|appears|would\s+be)(?!\w))*[{WRAPPING}]*"
    rf"(?:(?:very|quite|highly|most|simply)\s+)?(?:{_ANY}|{_SIGNS})[{WRAPPING}]*(?:[.,;:!]|$)",
    re.IGNORECASE,
)
SCORE = re.compile(rf"[{WRAPPING}]*[:=][{WRAPPING}]*[\d.]*\d")  # "Interacts: 0.1" is a number and no answer
CONFIRMATION = re.compile(
    r"(?<!\w)(?:(?:there\s+is\s+)?no|(?:without|beyond)(?:\s+an?y?)?)\s+(?:doubt|question)(?!\w)", re.IGNORECASE
)
CONTRACTION = re.compile(
    r"(?<!\w)(do|does|did|is|are|was|were|has|have|had|would|could|should|ca|wo)n'?t(?!\w)", re.IGNORECASE
)
_FULL_STEMS = {"ca": "can", "wo": "will"}


def without_contractions(text: str) -> str:
    """``doesn't``, ``doesnt`` -> ``does not``."""
    return CONTRACTION.sub(lambda match: f"{_FULL_STEMS.get(match[1].casefold(), match[1])} not", text)


def without_confirmations(text: str) -> str:
    """``no doubt`` and its like, which deny nothing, as blanks of the same length."""
    return CONFIRMATION.sub(lambda match: " " * len(match[0]), text)
