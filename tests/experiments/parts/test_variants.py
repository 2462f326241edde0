"""The rows of the tables."""

from experiments.parts import variants
from g_rmi.inference.settings import Settings

DECODINGS = ("hough", "hough_oks", "argmax_offset")


def test_one_option_at_a_time():
    given = Settings(decoding="argmax_offset", flip_test=True)
    rows = variants.one_at_a_time("gt", given, DECODINGS)
    assert rows["as given"] == ("gt", given)
    assert rows["decoding = hough"] == ("gt", Settings(decoding="hough", flip_test=True))
    assert rows["flip_test = False"] == ("gt", Settings(decoding="argmax_offset"))
    assert rows["rotation_test = True"][1].rotation_test
    assert rows["oks_nms = 1.0"][1].oks_nms == 1
    assert rows["decoding = hough_oks"] == ("gt", Settings(decoding="hough_oks", flip_test=True))
    assert not {"decoding = argmax_offset", "ranking = pose"} & set(rows)
    assert len(set(rows.values())) == len(rows)


def test_every_combination():
    rows = variants.grid({"detector": True, "gt": False}, Settings(flip_test=True))
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
