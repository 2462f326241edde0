"""The outcome of a sweep as a table, in Markdown and CSV, and as a plot."""

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from matplotlib.figure import Figure

from experiments.parts import detector_chart
from g_rmi.evaluation.truth import KEYPOINT_METRICS
from g_rmi.files import write_whole
from g_rmi.viz import table

# Colours of Okabe and Ito, which colour-blind people can tell apart, and markers for print.
_STYLES = (("#0072b2", "o"), ("#d55e00", "s"), ("#009e73", "^"))
_DRAWN = "AP", "AP50", "AR"


class Row(NamedTuple):
    """One point of the table."""

    name: str
    metrics: Mapping[str, float] | None  # COCO's numbers and costs, if they are there.
    minutes: float | None  # Training time of what counts, if it has begun.
    status: str  # "done", "waiting", or "failed: " and why.
    names: Sequence[str] = KEYPOINT_METRICS  # Of the numbers: people's, or boxes' and costs.
    detector: detector_chart.Mark | None = None  # Where detectors are compared.


def _columns(rows: Sequence[Row]) -> tuple[str, ...]:
    return ("point", *rows[0].names, "minutes", "status")


def _cells(row: Row, *, digits: int = 3, missing: str = "-") -> list[str]:
    have = row.metrics or {}
    numbers = [f"{have[n]:.{digits}f}" if n in have else missing for n in row.names]
    minutes = missing if row.minutes is None else f"{row.minutes:.1f}"
    return [row.name, *numbers, minutes, row.status]


def as_csv(rows: Sequence[Row]) -> str:
    """The table with a line of column names."""
    text = io.StringIO()
    lines = (_cells(row, digits=6, missing="") for row in rows)
    csv.writer(text, lineterminator="\n").writerows([_columns(rows), *lines])
    return text.getvalue()


def as_markdown(rows: Sequence[Row], title: str, command: str) -> str:
    """The table below its title and the command that made it."""
    return f"# {title}\n\n    {command}\n\n{table.markdown(_columns(rows), map(_cells, rows))}"


def plot(rows: Sequence[Row], title: str) -> Figure:
    """AP, AP50 and AR of each point that has them; of detectors, AP by time."""
    rows = [row for row in rows if row.metrics]
    marks = [(row.detector, row.metrics) for row in rows if row.detector and row.metrics]
    if marks:
        return detector_chart.plot(marks, title)
    figure = Figure(figsize=(7, 1.3 + 0.35 * len(rows)), layout="constrained")
    axes = figure.subplots()
    places = range(len(rows))
    for name, (colour, marker) in zip(_DRAWN, _STYLES):
        values = [row.metrics[name] for row in rows if row.metrics]
        axes.plot(values, places, marker, color=colour, label=name, linestyle="none")
    axes.set_yticks(places, [row.name for row in rows])
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_xlim(left=0)
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    figure.suptitle(title, x=0.01, ha="left", fontsize=10)  # over the names, too, which are long
    axes.legend(loc="upper left", bbox_to_anchor=(1, 1), frameon=False)
    return figure


def save(rows: Sequence[Row], out: Path, *, title: str, command: str) -> str:
    """Writes OUT.md, whose text it gives, OUT.csv and, of points that are done, OUT.png."""
    text = as_markdown(rows, title, command)
    write_whole(out.with_suffix(".csv"), as_csv(rows))
    write_whole(out.with_suffix(".md"), text)
    if any(row.metrics for row in rows):
        plot(rows, title).savefig(out.with_suffix(".png"), dpi=120)
    return text
