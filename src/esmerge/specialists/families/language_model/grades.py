"""The exam of a whole set, from what was recorded when its stages were made: does it read, does each LoRA carry?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

from esmerge.specialists.specialists import Exam

MATCHED_ONLY = "specialist_ranking"  # a figure of matched exams
LEAST_ACCURACY, LEAST_GAIN = (
    0.65,
    0.15,
)  # of a specialist in a matched exam, where chance is 0.5; over the bare backbone


def grades(recorded: Mapping[str, object], reads: float) -> Exam:
    """Figures of the backbone's reading and of every specialist.

    Args:
        recorded: ``reading``, ``specialist NAME`` and ``projector alone NAME`` -> figures.
        reads: share that must be read rightly in every form.

    What is required of a specialist is required where it was examined on matched questions, which chance answers half.
    """
    reading = cast(Mapping[str, Mapping[str, float]], recorded.get("reading", {}))
    figures = {f"backbone reads {form}": share for form, share in reading.get("after", {}).items()}
    required = dict.fromkeys(figures, reads)
    for name, value in recorded.items():
        if name.startswith("specialist "):
            expert = name.removeprefix("specialist ")
            values = cast(Mapping[str, float], value)
            alone = cast(Mapping[str, float], recorded.get(f"projector alone {expert}", {}))
            least = {f"{expert} specialist": LEAST_ACCURACY, f"{expert} specialist, gain over backbone": LEAST_GAIN}
            accuracy = values["specialist_accuracy"]
            shown = [accuracy, accuracy - values["backbone_accuracy"]]
            figures |= dict(zip(least, shown, strict=True))
            if alone:
                least[f"{expert} specialist, gain over projector"] = LEAST_GAIN
                figures[f"{expert} specialist, gain over projector"] = accuracy - alone["accuracy"]
            required |= least if MATCHED_ONLY in values else {}
    return Exam(figures, required)
