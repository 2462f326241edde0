"""Plots as SVG text that stands inside a page: small, without fonts or pixels of their own."""

import io
import re
from collections.abc import Callable, Mapping, Sequence

import matplotlib
import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure

COLOURS = ("#1f6feb", "#d9730d", "#2c8a4b", "#8250df", "#c93c37", "#6e7781")
_STYLE = {
    "svg.fonttype": "none",  # text stays text
    "svg.hashsalt": "g_rmi",  # equal plots are equal text
    "font.size": 9,
    "axes.edgecolor": "#8c959f",
    "axes.labelcolor": "#424a53",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "grid.color": "#d8dee4",
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "legend.fontsize": 8,
    "xtick.color": "#57606a",
    "ytick.color": "#57606a",
}
_WIDTH, _HEIGHT = 4.2, 3.0  # Inches of 72 CSS pixels.

Values = Sequence[float | int] | Float[np.ndarray, " P"]


def line_plot(
    curves: Mapping[str, tuple[Values, Values]],
    *,
    x: str,
    y: str,
    unit_square: bool = False,
    log: bool = False,
) -> str:
    """Curves by name, abscissae and ordinates, with labels x and y, as an `<svg>` element.

    In the unit square both axes go from 0 to 1; `log` is of the ordinate.
    """

    def draw(axes: Axes) -> None:
        for i, (name, (abscissae, ordinates)) in enumerate(curves.items()):
            mark = "o" if len(abscissae) < 12 else None
            colour = COLOURS[i % len(COLOURS)]
            axes.plot(abscissae, ordinates, label=name, color=colour, lw=1.6, marker=mark, ms=3)
        axes.set(xlabel=x, ylabel=y)
        if log:
            axes.set_yscale("log")
        else:
            axes.set_ylim(bottom=0)
        if unit_square:
            axes.set(xlim=(0, 1), ylim=(0, 1.02))
        axes.grid(True)
        if len(curves) > 1:  # above, where it covers no curve
            axes.legend(ncols=3, loc="lower left", bbox_to_anchor=(-0.02, 1), handlelength=1)

    return _plot(draw, _HEIGHT)


def gain_plot(start: float, ends: Mapping[str, float], *, x: str) -> str:
    """A bar for each name from `start` to its number, which stands beside it, as `<svg>`."""

    def draw(axes: Axes) -> None:
        names, values = list(ends), list(ends.values())
        gains = [value - start for value in values]
        axes.barh(names, gains, left=start, color=COLOURS[0], height=0.62)
        for row, value in enumerate(values):
            axes.text(max(value, start) + 0.012, row, f"{value:.3f}", va="center", fontsize=8)
        axes.axvline(start, color="#424a53", lw=1)
        axes.set(xlim=(0, 1.1), xlabel=x, xticks=[0, 0.2, 0.4, 0.6, 0.8, 1])
        axes.invert_yaxis()
        axes.grid(True, axis="x")
        axes.set_axisbelow(True)

    return _plot(draw, 0.6 + 0.27 * len(ends))


def share_plot(rows: Mapping[str, Sequence[float]], parts: Mapping[str, str], *, x: str) -> str:
    """A bar of length 1 for each row, cut in its shares, one of each coloured part: `<svg>`."""

    def draw(axes: Axes) -> None:
        names, left = list(rows), [0.0] * len(rows)
        for i, (part, colour) in enumerate(parts.items()):
            widths = [shares[i] for shares in rows.values()]
            axes.barh(names, widths, left=left, color=colour, height=0.72, label=part)
            left = [a + b for a, b in zip(left, widths, strict=True)]
        axes.set(xlim=(0, 1), xlabel=x)
        axes.invert_yaxis()
        axes.legend(ncols=3, loc="lower left", bbox_to_anchor=(-0.02, 1), handlelength=1)

    return _plot(draw, 0.9 + 0.2 * len(rows))


def _plot(draw: Callable[[Axes], None], height: float) -> str:
    """Draws on the axes of a new figure and gives its SVG element."""
    text = io.StringIO()
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(_WIDTH, height), layout="constrained")
        draw(figure.add_subplot())
        nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
        figure.savefig(text, format="svg", transparent=True, metadata=nothing)
    svg = text.getvalue()
    svg = re.sub(r"<style.*?</style>", "", svg[svg.index("<svg") :], flags=re.DOTALL)
    used = set(re.findall(r"#([\w.-]+)", svg))  # no other element needs an id
    svg = re.sub(r' id="([\w.-]+)"', lambda found: found[0] if found[1] in used else "", svg)
    return re.sub(r"\s+", " ", svg).strip()
