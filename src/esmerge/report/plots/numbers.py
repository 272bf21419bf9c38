"""Where the numbers of points go, so that none lies on another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

Point = tuple[float, float]
NEAR = 5.0  # points (1/72 inch) within which markers lie on one another and share a label
LETTER, HEIGHT = 4.6, 8.0  # size of a digit
MARKER = 3.0  # half a marker


@dataclass
class NumberLabel:
    """The label of one marker, or of several on one another.

    Attributes:
        position: of the first of them, in 1/72 inch.
        numbers: of the markers, from 1.
        offset: of the label's lower left corner from the marker.
    """

    position: Point
    numbers: list[int] = field(default_factory=list)
    offset: Point = (4.0, 4.0)

    @property
    def text(self) -> str:
        return ", ".join(map(str, self.numbers))

    def box(self, offset: Point) -> tuple[float, float, float, float]:
        """Left, bottom, right, top of the label with an offset."""
        left, bottom = self.position[0] + offset[0], self.position[1] + offset[1]
        return left, bottom, left + LETTER * len(self.text), bottom + HEIGHT


def number_labels(positions: Sequence[Point]) -> list[NumberLabel]:
    """A label for each marker; each is set to the first side of its marker that is free, clockwise from upper right."""
    labels: list[NumberLabel] = []
    for number, position in enumerate(positions, start=1):
        near = (label for label in labels if _distance(label.position, position) < NEAR)
        label = next(near, None) or NumberLabel(position)
        if not label.numbers:
            labels.append(label)
        label.numbers.append(number)
    boxes = [(x - MARKER, y - MARKER, x + MARKER, y + MARKER) for x, y in (label.position for label in labels)]
    for label in labels:
        width = LETTER * len(label.text)
        sides = [(4.0, 4.0), (6.0, -3.0), (4.0, -11.0), (-4 - width, -11.0), (-6 - width, -3.0), (-4 - width, 4.0)]
        free = (side for side in sides if not any(_overlap(label.box(side), box) for box in boxes))
        label.offset = next(free, sides[0])
        boxes.append(label.box(label.offset))
    return labels


def _distance(a: Point, b: Point) -> float:
    return max(abs(a[0] - b[0]), abs(a[1] - b[1]))


def _overlap(a: Sequence[float], b: Sequence[float]) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]
