"""The chart of detectors: what is drawn where."""

import pytest

from experiments.parts.detector_chart import COLUMNS, Mark, plot
from experiments.parts.sweep_table import Row, as_csv, as_markdown
from experiments.parts.sweep_table import plot as plot_rows


def numbers(ap, **costs):
    boxes = {name: ap for name in COLUMNS if name.startswith("box")}
    return boxes | {"box_APS": -1.0} | costs


MARKS = [
    (Mark("faster_rcnn", "ResNet-26", 300, "a"), numbers(0.3, ms=90.0, cpu_ms=60.0)),
    (Mark("faster_rcnn", "ResNet-26", 10, "a"), numbers(0.2, ms=40.0, cpu_ms=30.0)),
    (Mark("ssd", "ResNet-50", None, "b"), numbers(0.1, ms=20.0, cpu_ms=10.0)),
    (Mark("rfcn", "ResNet-26", 50, "c"), numbers(0.25)),  # not timed
]


@pytest.mark.parametrize("clock", ["ms", "cpu_ms"])
def test_detectors_lie_where_their_numbers_say(clock):
    marks = [(mark, dict(row)) for mark, row in MARKS]
    if clock == "ms":  # one without processor time: all by the wall
        marks = [(mark, {k: v for k, v in row.items() if k != "cpu_ms"}) for mark, row in marks]
    figure = plot([m for m in marks if clock == "ms" or "cpu_ms" in m[1]], "Title")
    overall, small, _, _, time, legend = figure.axes
    faster, ssd = (line.get_xydata().tolist() for line in overall.lines)
    cost = {mark.training: [] for mark, _ in MARKS} | {
        "a": [MARKS[1][1][clock], MARKS[0][1][clock]],
        "b": [MARKS[2][1][clock]],
    }
    assert faster == [[cost["a"][0], 0.2], [cost["a"][1], 0.3]]  # one training, by proposals
    assert ssd == [[cost["b"][0], 0.1]]
    assert [p[1] for p in small.lines[0].get_xydata()] == [0, 0]  # COCO's -1: nobody to find
    assert time.lines[0].get_xydata().tolist() == [[10, cost["a"][0]], [300, cost["a"][1]]]
    assert time.lines[-1].get_ydata() == pytest.approx([cost["b"][0]] * 2)
    assert [line.get_marker() for line in overall.lines] == ["o", "^"]
    assert len({line.get_color() for line in overall.lines}) == 2  # by backbone
    texts = [text.get_text() for text in legend.get_legend().get_texts()]
    assert {"Faster R-CNN", "SSD", "ResNet-26", "ResNet-50"} <= set(texts)


def test_the_table_has_numbers_and_costs():
    rows = [Row("x", row, 1.5, "done", COLUMNS, mark) for mark, row in MARKS[::3]]
    head, first, last = as_csv(rows).splitlines()
    assert head == f"point,{','.join(COLUMNS)},minutes,status"
    assert first.split(",")[COLUMNS.index("ms") + 1] == "90.000000"
    assert last.split(",")[COLUMNS.index("ms") + 1] == ""
    assert "| -" in as_markdown(rows, "Title", "command")
    assert len(plot_rows(rows, "Title").axes) == 6
