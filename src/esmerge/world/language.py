"""The words of the textbook: names with synonyms, questions with wordings, and how an entity is described in text."""

from __future__ import annotations

import numpy as np

from esmerge.world.cells import GENES
from esmerge.world.world import KINDS

NAMES = {
    "molecule": (
        ("lumane", "lumide", "lumol"),
        ("tarvine", "tarvate", "tarvol"),
        ("ostrane", "ostride", "ostrol"),
        ("quelane", "quelide", "quelol"),
        ("zephine", "zephate", "zephol"),
        ("mirane", "miride", "mirol"),
    ),
    "protein": (
        ("kinase", "phosphorylase", "kinoid"),
        ("protease", "peptidase", "proteoid"),
        ("channel", "pore", "conductor"),
        ("receptor", "sensor", "acceptor"),
        ("carrier", "transporter", "shuttle"),
        ("ligase", "synthetase", "joiner"),
    ),
    "cell": (
        ("liver", "hepatic", "hepatoid"),
        ("skin", "dermal", "cutaneous"),
        ("lung", "pulmonary", "bronchial"),
        ("kidney", "renal", "nephric"),
        ("brain", "neural", "glial"),
        ("blood", "myeloid", "hematic"),
    ),
}
HEADS = {"molecule": "drug", "protein": "protein", "cell": "cell"}
WORDINGS = {
    "molecule": ("drug class", "drug kind", "drug category"),
    "protein": ("protein family", "protein kind", "protein category"),
    "cell": ("cell lineage", "cell kind", "cell category"),
    "bind": ("bind", "target", "affinity"),
    "kill": ("kill", "sensitive", "potency"),
    "clash": ("clash", "interact", "contraindicated"),
    "combine": ("combine", "synergy", "regimen"),
}
NO, YES = "no", "yes"
FILLER = tuple(
    [
        "the",
        "a",
        "of",
        "with",
        "shows",
        "known",
        "seen",
        "here",
        "some",
        "this",
        "sample",
        "typical",
        "as",
        "in",
        "from",
        "about",
        "noted",
        "measured",
        "recorded",
        "assay",
        "report",
        "table",
        "study",
        "group",
        "level",
        "line",
        "batch",
        "source",
        "clean",
        "fresh",
        "stored",
        "pure",
        "given",
        "common",
        "second",
        "third",
        "early",
        "late",
        "small",
        "large",
        "high",
        "low",
        "mild",
        "strong",
    ]
)
PUNCTUATION = (":", ";", "?")
UNKNOWN, PADDING, START = "<unk>", "<pad>", "<s>"

_KIND_WORDS = tuple(word for names in NAMES.values() for synonyms in names for word in synonyms)
_QUESTION_WORDS = tuple(word for wordings in WORDINGS.values() for wording in wordings for word in wording.split())


def vocabulary() -> list[str]:
    """Every word of the textbook once, special tokens first."""
    words = (PADDING, UNKNOWN, START, *PUNCTUATION, NO, YES, *HEADS.values(), *_QUESTION_WORDS, *_KIND_WORDS)
    return list(dict.fromkeys((*words, *FILLER, *GENES)))


def canonical(modality: str, kind: int) -> str:
    """The first name of a kind."""
    return NAMES[modality][kind][0]


def describe(modality: str, kind: int, rng: np.random.Generator, level: int) -> str:
    """An entity in words, by difficulty.

    Args:
        level: 0 the canonical name alone; 1 one or two synonyms; 2 one to three synonyms among filler words.
    """
    if level == 0:
        return canonical(modality, kind)
    names = [NAMES[modality][kind][rng.integers(3)] for _ in range(rng.integers(1, 3 if level == 1 else 4))]
    if level == 1:
        return " ".join(names)
    filler = [FILLER[rng.integers(len(FILLER))] for _ in range(rng.integers(2, 9 - len(names)))]
    words = names + filler
    return " ".join(words[index] for index in rng.permutation(len(words)))


def kind_answers(modality: str) -> tuple[str, ...]:
    """The candidate answers to 'which kind', in the order of the kinds."""
    return tuple(canonical(modality, kind) for kind in range(KINDS))
