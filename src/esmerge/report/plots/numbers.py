"""Where the numbers of points go, so that none lies on another."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from esmerge.report.plots.lettering import text_width

Point = tuple[float, float]
NEAR = 5.0  # points (1/72 inch) within which markers lie on one another and share a label
SIZE, HEIGHT = 7.5, 9.5  # of the letters, and how high a line of them is
MARKER = 3.5  # half a marker
AWAY = (15.0, 25.0, 38.0)  # how far a label is taken from its marker where no side is free, with a line between


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

    @property
    def width(self) -> float:
        return 72 * text_width(self.text, SIZE) + 1

    @property
    def is_away(self) -> bool:
        return max(map(abs, self.offset)) > AWAY[0] / 2 + self.width

    def box(self, offset: Point) -> tuple[float, float, float, float]:
        """Left, bottom, right, top of the label with an offset."""
        left, bottom = self.position[0] + offset[0], self.position[1] + offset[1]
        return left, bottom, left + self.width, bottom + HEIGHT


def number_labels(positions: Sequence[Point], size: Point = (math.inf, math.inf)) -> list[NumberLabel]:
    """A label for each marker; each is set to the first side of its marker that is free, clockwise from upper right,
    or farther away, or else to where least is covered.

    Args:
        size: of the panel, which no label leaves; its lower left corner is (0, 0).
    """
    labels: list[NumberLabel] = []
    for number, position in enumerate(positions, start=1):
        neighbours = (label for label in labels if _distance(label.position, position) < NEAR)
        label = next(neighbours, None) or NumberLabel(position)
        if not label.numbers:
            labels.append(label)
        label.numbers.append(number)
    boxes = [(x - MARKER, y - MARKER, x + MARKER, y + MARKER) for x, y in positions]
    for label in labels:
        offsets = _offsets(label.width)
        inside = [offset for offset in offsets if _is_inside(label.box(offset), size)] or offsets[:1]
        label.offset = min(inside, key=lambda offset: sum(_overlap(label.box(offset), box) for box in boxes))
        boxes.append(label.box(label.offset))
    return labels


def _offsets(width: float) -> list[Point]:
    """Of a label of that width, the best first."""
    sides = [(5.0, 4.0), (7.0, -3.0), (5.0, -11.0), (-5 - width, -11.0), (-7 - width, -3.0), (-5 - width, 4.0)]
    for away in AWAY:
        right, left, up, down = away, -away - width, away - HEIGHT / 2, -away - HEIGHT / 2
        middle = -width / 2, -HEIGHT / 2
        sides += [(right, up), (right, middle[1]), (right, down), (middle[0], down)]
        sides += [(left, down), (left, middle[1]), (left, up), (middle[0], up)]
    return sides


def _is_inside(box: Sequence[float], size: Point) -> bool:
    return box[2] <= size[0] and box[3] <= size[1] and (size[0] == math.inf or min(box[:2]) >= 0)


def _distance(a: Point, b: Point) -> float:
    return max(abs(a[0] - b[0]), abs(a[1] - b[1]))


def _overlap(a: Sequence[float], b: Sequence[float]) -> float:
    """The area that both cover."""
    return max(0.0, min(a[2], b[2]) - max(a[0], b[0])) * max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
