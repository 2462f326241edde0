"""The chart of Huang et al. (2017): what detectors find, by what they cost."""

import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

Numbers = Mapping[str, float]

COLUMNS = (
    *("box_AP", "box_AP50", "box_APS", "box_APM", "box_APL"),
    *("ms", "cpu_ms", "gflops", "memory_mb", "parameters_m"),
)
_PANELS = {
    "box_AP": "AP",
    "box_APS": "AP, small people",
    "box_APM": "AP, medium people",
    "box_APL": "AP, large people",
}
# Of Okabe and Ito, which colour-blind people can tell apart.
_COLOURS = "#0072b2", "#d55e00", "#009e73", "#cc79a7"
_MARKERS = {"faster_rcnn": "o", "rfcn": "s", "ssd": "^"}
_NAMES = {"faster_rcnn": "Faster R-CNN", "rfcn": "R-FCN", "ssd": "SSD"}


class Mark(NamedTuple):
    """What a point of the chart is of."""

    kind: str
    backbone: str  # as in the legend
    proposals: int | None  # None where there are none
    training: str  # points of one are joined


def plot(marks: Sequence[tuple[Mark, Numbers]], title: str) -> Figure:
    """AP of all, small, medium and large people by time a picture; time by proposals.

    Colour is the backbone, marker meta-architecture. On CPUs time is that of the processor, which
    busy neighbours change least.
    """
    time = "cpu_ms" if all("cpu_ms" in numbers for _, numbers in marks) else "ms"
    backbones = sorted({mark.backbone for mark, _ in marks}, key=lambda name: (len(name), name))
    colours = dict(zip(backbones, itertools.cycle(_COLOURS)))
    figure = Figure(figsize=(11, 6), layout="constrained")
    axes = figure.subplots(2, 3).flat
    for panel, (name, text) in zip(axes, _PANELS.items()):
        for mark, points in _by_training(marks):
            seen = [(numbers[time], max(numbers[name], 0.0)) for _, numbers in points]
            _draw(panel, mark, colours[mark.backbone], seen)
        panel.set_ylim(bottom=0)
        _label(panel, text, x="ms a picture")
    by_proposals, legend = axes[4], axes[5]
    for mark, points in _by_training(marks):
        seen = [(m.proposals, numbers[time]) for m, numbers in points if m.proposals]
        _draw(by_proposals, mark, colours[mark.backbone], seen)
        if mark.proposals is None:
            colour, value = colours[mark.backbone], points[0][1][time]
            by_proposals.axhline(value, color=colour, linewidth=0.8, linestyle=":")
    by_proposals.set_ylim(bottom=0)
    _label(by_proposals, "ms a picture", x="proposals; dotted: a detector without any")
    legend.axis("off")
    legend.legend(handles=_legend(marks, colours), loc="center left", frameon=False)
    figure.suptitle(title, x=0.01, ha="left", fontsize=11)
    return figure


def _by_training(marks: Sequence[tuple[Mark, Numbers]]) -> list[tuple[Mark, list]]:
    """The points of each training that were timed, by rising proposals."""
    groups: dict[str, list[tuple[Mark, Numbers]]] = {}
    for mark, numbers in marks:
        if "ms" in numbers:
            groups.setdefault(mark.training, []).append((mark, numbers))
    for points in groups.values():
        points.sort(key=lambda point: point[0].proposals or 0)
    return [(points[0][0], points) for points in groups.values()]


def _draw(axes: Axes, mark: Mark, colour: str, points: Iterable[tuple[float, float]]) -> None:
    x, y = zip(*points) if points else ((), ())
    style = {"marker": _MARKERS[mark.kind], "color": colour}
    axes.plot(x, y, linewidth=0.8, markersize=5, **style)
    axes.margins(0.1)


def _label(axes: Axes, title: str, *, x: str) -> None:
    axes.set_title(title, loc="left", fontsize=10)
    axes.set_xlabel(x, fontsize=9)
    axes.set_xlim(left=0)
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)


def _legend(marks: Sequence[tuple[Mark, Numbers]], colours: Mapping[str, str]) -> list[Line2D]:
    kinds = dict.fromkeys(mark.kind for mark, _ in marks)
    looks = [("0.3", _MARKERS[kind], _NAMES[kind]) for kind in kinds]
    looks += [(colour, ".", backbone) for backbone, colour in colours.items()]
    return [
        Line2D([], [], color=colour, marker=marker, label=label, linestyle="none")
        for colour, marker, label in looks
    ]
