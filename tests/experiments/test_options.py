"""The rows of the tables."""

from experiments import options
from g_rmi.evaluation.coco import KEYPOINT_METRICS
from g_rmi.evaluation.evaluator import Decoding


def test_one_option_at_a_time():
    given = Decoding(method="argmax_offset", flip_test=True)
    rows = options.one_at_a_time("gt", given)
    assert rows["as given"] == ("gt", given)
    assert rows["method = hough"] == ("gt", Decoding(method="hough", flip_test=True))
    assert rows["flip_test = False"] == ("gt", Decoding(method="argmax_offset"))
    assert rows["turn_test = True"][1].turn_test
    assert rows["oks_threshold = 1.0"][1].oks_threshold == 1
    assert rows["method = hough_oks"] == ("gt", Decoding(method="hough_oks", flip_test=True))
    assert not {"method = argmax_offset", "refine = True", "score = pose"} & set(rows)
    assert len(set(rows.values())) == len(rows)
    assert "refine = True" not in options.one_at_a_time("gt", Decoding(method="hough_oks"))
    assert "refine = True" in options.one_at_a_time("gt", Decoding(method="hough"))


def test_every_combination():
    rows = options.grid({"detector": True, "gt": False}, Decoding(flip_test=True))
    assert len(set(rows.values())) == len(rows) == 3 * 3 + 2 * 3
    assert rows["detector boxes, product score, no NMS"] == (
        "detector",
        Decoding(flip_test=True, score="product", oks_threshold=1.0),
    )
    assert rows["gt boxes, box score, IoU-NMS"] == (
        "gt",
        Decoding(flip_test=True, score="box", oks_threshold=1.0, iou_threshold=0.5),
    )
    assert rows["gt boxes, pose score, OKS-NMS"] == ("gt", Decoding(flip_test=True))


def test_markdown():
    numbers = dict.fromkeys(KEYPOINT_METRICS, 0.1) | {"AP": 0.12345, "AR": -1.0}
    text = options.markdown({"as given": numbers, "no NMS": numbers}, "boxes: gt")
    head, ruler, first, second = text.splitlines()
    assert [cell.strip() for cell in head.split("|")[1:4]] == ["boxes: gt", "AP", "AP50"]
    assert set(ruler) == set("|-: ")
    assert first.startswith("| as given  | 0.123 | 0.100 |")
    assert {line.count("|") for line in (head, ruler, first, second)} == {12}
