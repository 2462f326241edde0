"""The rows of the tables."""

from experiments import options
from g_rmi.evaluation.coco import KEYPOINT_METRICS
from g_rmi.inference.settings import Settings

DECODINGS = ("hough", "hough_oks", "argmax_offset")


def test_one_option_at_a_time():
    given = Settings(decoding="argmax_offset", flip_test=True)
    rows = options.one_at_a_time("gt", given, DECODINGS)
    assert rows["as given"] == ("gt", given)
    assert rows["decoding = hough"] == ("gt", Settings(decoding="hough", flip_test=True))
    assert rows["flip_test = False"] == ("gt", Settings(decoding="argmax_offset"))
    assert rows["rotation_test = True"][1].rotation_test
    assert rows["oks_nms = 1.0"][1].oks_nms == 1
    assert rows["decoding = hough_oks"] == ("gt", Settings(decoding="hough_oks", flip_test=True))
    assert not {"decoding = argmax_offset", "ranking = pose"} & set(rows)
    assert len(set(rows.values())) == len(rows)


def test_every_combination():
    rows = options.grid({"detector": True, "gt": False}, Settings(flip_test=True))
    assert len(set(rows.values())) == len(rows) == 3 * 3 + 2 * 3
    assert rows["detector boxes, product score, no NMS"] == (
        "detector",
        Settings(flip_test=True, ranking="product", oks_nms=1.0),
    )
    assert rows["gt boxes, box score, IoU-NMS"] == (
        "gt",
        Settings(flip_test=True, ranking="box", oks_nms=1.0, box_nms=0.5),
    )
    assert rows["gt boxes, pose score, OKS-NMS"] == ("gt", Settings(flip_test=True))


def test_markdown():
    numbers = dict.fromkeys(KEYPOINT_METRICS, 0.1) | {"AP": 0.12345, "AR": -1.0}
    text = options.markdown({"as given": numbers, "no NMS": numbers}, "boxes: gt")
    head, ruler, first, second = text.splitlines()
    assert [cell.strip() for cell in head.split("|")[1:4]] == ["boxes: gt", "AP", "AP50"]
    assert set(ruler) == set("|-: ")
    assert first.startswith("| as given  | 0.123 | 0.100 |")
    assert {line.count("|") for line in (head, ruler, first, second)} == {12}
