"""What a figure says, as it is drawn, and whether it can be read."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import combinations

import pytest
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.transforms import Bbox

TEXT_WIDTH = 6.5  # inches of a printed page
LEGIBLE = 6.0  # points


@contextmanager
def _recording(drawn_texts: list[Text]) -> Iterator[None]:
    draw = Text.draw

    def recorded(self: Text, *args: object, **options: object) -> None:
        if self.get_visible() and self.get_text().strip() and self not in drawn_texts:
            drawn_texts.append(self)
        draw(self, *args, **options)

    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(Text, "draw", recorded)
        yield


def texts(figure: Figure) -> list[tuple[Text, Bbox]]:
    """Everything that is lettered, and the box that it takes, in pixels."""
    drawn_texts: list[Text] = []
    canvas = FigureCanvasAgg(figure)
    with _recording(drawn_texts):
        canvas.draw()
    return [(text, _box(text, canvas)) for text in drawn_texts]


def _box(text: Text, canvas: FigureCanvasAgg) -> Bbox:
    """Without the empty lines above it."""
    box, content = Text.get_window_extent(text, canvas.get_renderer()), text.get_text()
    share = (content.lstrip("\n").count("\n") + 1) / (content.count("\n") + 1)
    return Bbox.from_extents(box.x0, box.y0, box.x1, box.y0 + share * box.height)


def assert_legible(figure: Figure) -> None:
    """No text lies on another or leaves the page, and none is too small where the figure is as wide as a page's text;
    the panels' titles stay over their panels."""
    boxed_texts = texts(figure)
    scale = TEXT_WIDTH / max(TEXT_WIDTH, figure.get_figwidth())
    page = figure.bbox.padded(1)
    for text, box in boxed_texts:
        assert text.get_fontsize() * scale >= LEGIBLE, f"{text.get_text()!r} is too small"
        assert page.x0 <= box.x0 and box.x1 <= page.x1, f"{text.get_text()!r} leaves the page"
        assert page.y0 <= box.y0 and box.y1 <= page.y1, f"{text.get_text()!r} leaves the page"
    for (text, box), (other, other_box) in combinations(boxed_texts, 2):
        assert not box.padded(-1).overlaps(other_box.padded(-1)), f"{text.get_text()!r} is on {other.get_text()!r}"
    assert_apart(figure, boxed_texts)


def assert_apart(figure: Figure, boxed_texts: list[tuple[Text, Bbox]]) -> None:
    """Titles and labels beside the panels lie on no panel."""
    panels = [panel.get_window_extent() for panel in figure.axes if panel.axison]
    panel_texts = {id(text) for panel in figure.axes if isinstance(panel, Axes) for text in panel.texts}
    for text, box in boxed_texts:
        if id(text) not in panel_texts:
            for panel in panels:
                assert not box.padded(-1).overlaps(panel.padded(-1)), f"{text.get_text()!r} lies on a panel"
