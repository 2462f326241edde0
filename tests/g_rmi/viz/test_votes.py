"""The picture of the method shows what the maps say."""

import numpy as np
import pytest

from g_rmi.viz.draw import draw_heatmap
from g_rmi.viz.votes import draw_votes, explain_joint

JOINT = np.array([20.0, 30.0])  # x, y


def perfect_maps(height=65, width=49, radius=8.0):
    rows, columns = np.mgrid[:height, :width]
    offset = JOINT - np.stack([columns, rows], axis=-1)
    inside = (np.linalg.norm(offset, axis=-1) <= radius).astype(np.float32)
    fused = np.zeros((height, width), np.float32)
    fused[30, 20] = 1
    return inside, offset.astype(np.float32), fused


@pytest.mark.parametrize("zoom", [1, 4])
def test_votes_are_drawn_where_the_disk_is_and_end_on_the_joint(zoom):
    heatmap, offset, _ = perfect_maps()
    image = np.full((64 * zoom + 1, 48 * zoom + 1, 3), 90, np.uint8)
    picture = draw_votes(image, heatmap, offset)
    touched = np.argwhere((picture != image).any(-1))[:, ::-1]
    assert np.linalg.norm(touched - zoom * JOINT, axis=-1).max() <= 8 * zoom + 3
    x, y = (zoom * JOINT).astype(int)
    assert picture[y, x].min() > 150  # the white end of all of them
    corner = zoom * (JOINT - 5)
    assert (picture[int(corner[1]), int(corner[0])] != 90).any()


def test_weak_and_broken_positions_do_not_vote():
    heatmap, offset, _ = perfect_maps()
    image = np.full((65, 49, 3), 90, np.uint8)
    offset[...] = np.nan
    np.testing.assert_array_equal(draw_votes(image, heatmap, offset), image)
    np.testing.assert_array_equal(draw_votes(image, 0 * heatmap, 0 * offset), image)
    _, offset, _ = perfect_maps()
    heatmap[50, 40] = 0.2  # under .3 of the largest
    picture = draw_votes(image, heatmap, offset)
    assert (picture[50, 40] == 90).all()


def test_panels_in_the_order_of_the_method():
    heatmap, offset, fused = perfect_maps()
    crop = np.full((65, 49, 3), 90, np.uint8)
    maps = {"heatmap": heatmap, "offset": offset, "score": fused - 1e-3}
    page = explain_joint(crop, maps, joint="nose", found=JOINT, score=1.0, height=129)
    gap = 2
    panels = [page[gap : gap + 129, gap + i * (97 + gap) :][:, :97] for i in range(4)]
    # Six times the crop; the joint, at (120, 180) there, is in the middle of 97 x 129 pixels.
    large = np.full((385, 289, 3), 90, np.uint8)
    window = slice(180 - 64, 180 + 65), slice(120 - 48, 120 + 49)
    np.testing.assert_array_equal(panels[1], draw_heatmap(large, heatmap)[window])
    np.testing.assert_array_equal(panels[2], draw_votes(large, heatmap, offset)[window])
    np.testing.assert_array_equal(panels[3], draw_heatmap(large, fused)[window])
    rows, columns = np.nonzero((panels[0] != 90).any(-1))
    assert abs(np.mean(columns) - 40) < 1  # a ring around the joint, and the frame
    assert abs(np.mean(rows) - 60) < 1
    assert (columns.min(), columns.max()) == (24, 56)  # (120 -+ 48) / 3


@pytest.mark.parametrize("found", [(0.0, 0.0), (48.0, 64.0)])
def test_the_frame_stays_in_the_crop(found):
    crop = np.full((65, 49, 3), 90, np.uint8)
    maps = {"heatmap": perfect_maps()[0]}
    page = explain_joint(crop, maps, joint="nose", found=np.array(found), score=1.0, height=129)
    assert page.shape[1] == 2 * (97 + 2) + 2
