"""What all figures share: colours that any colour vision can tell apart, frames, and how they are saved."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from esmerge.core.methods import MethodKind
from esmerge.storage.files import replacing

# kind -> colour and marker; Okabe and Ito's palette
STYLES: Mapping[MethodKind, tuple[str, str]] = {
    MethodKind.FLOOR: ("#999999", "v"),
    MethodKind.REFERENCE: ("#444444", "s"),
    MethodKind.MERGE: ("#0072B2", "o"),
    MethodKind.ES: ("#D55E00", "D"),
    MethodKind.CONTROL: ("#CC79A7", "^"),
    MethodKind.TASK_AWARE: ("#009E73", "P"),
}
SERIES = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")  # the same palette, for experts
MARKERS = ("o", "s", "^", "D", "v", "P", "X")  # so that nothing hangs on colour alone
DPI = 160


def series(names: Sequence[str]) -> dict[str, tuple[str, str]]:
    """Name -> colour and marker, repeating when there are more names than colours."""
    pairs = [(SERIES[i % len(SERIES)], MARKERS[(i + i // len(SERIES)) % len(MARKERS)]) for i in range(len(names))]
    return dict(zip(names, pairs, strict=True))


def frame_panel(panel: Axes, title: str = "", axis: str = "y") -> None:
    """A quiet frame: a grid along one axis (or ``both``), no box."""
    panel.set_title(title, fontsize=9)
    panel.grid(axis=axis, color="#dddddd", linewidth=0.7)  # type: ignore[arg-type]
    panel.set_axisbelow(True)
    panel.tick_params(length=0, labelsize=8)
    panel.spines[["top", "right"]].set_visible(False)
    panel.spines[["left", "bottom"]].set_color("#bbbbbb")


def save(figure: Figure, path: Path) -> Path:
    """Write a figure whole or not at all, in the format that the path ends with, ``.png`` or ``.svg``.

    The same figure gives the same bytes: an SVG holds no date and no random names. The canvas is asked itself, since
    ``Figure.savefig`` draws everything twice.
    """
    with replacing(path) as partial, rc_context({"svg.hashsalt": path.name}):
        if path.suffix == ".svg":
            FigureCanvasSVG(figure).print_svg(partial, metadata={"Date": None})  # type: ignore[no-untyped-call]
        else:
            figure.set_dpi(DPI)
            FigureCanvasAgg(figure).print_png(partial)  # type: ignore[no-untyped-call]
    return path


def save_both(figure: Figure, stem: Path) -> list[Path]:
    """Write ``stem.png`` and ``stem.svg``; the parts are laid out once for both, which is half of the work."""
    png = save(figure, stem.with_name(f"{stem.name}.png"))
    figure.set_layout_engine("none")
    return [png, save(figure, stem.with_name(f"{stem.name}.svg"))]
