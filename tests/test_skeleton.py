"""Keypoint sets."""

import numpy as np
import pytest

from g_rmi import skeleton


def test_coco_matches_pycocotools():
    from pycocotools.cocoeval import Params

    np.testing.assert_allclose(skeleton.COCO.sigmas, Params("keypoints").kpt_oks_sigmas)
    assert len(skeleton.COCO) == 17


def test_flip_swaps_sides_and_is_its_own_inverse():
    names, flip = skeleton.COCO.names, skeleton.COCO.flip
    for i, j in enumerate(flip):
        assert flip[j] == i
        assert names[i].replace("left", "right") == names[j].replace("left", "right")
    assert sum(i == j for i, j in enumerate(flip)) == 1


def test_own_keypoint_set():
    hand = skeleton.Skeleton.create(
        ("wrist", "left_tip", "right_tip"), limbs=[("wrist", "left_tip")], sigmas=[0.1, 0.1, 0.1]
    )
    assert hand.flip == (0, 2, 1)
    assert hand.limbs == ((0, 1),)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"flip": (0, 2, 2)}, "flip"),
        ({"sigmas": (0.1, 0.1)}, "3 positive sigmas"),
        ({"sigmas": (0.1, 0.1, 0.0)}, "3 positive sigmas"),
        ({"limbs": ((0, 3),)}, "outside"),
        ({"names": ("a", "a", "b")}, "unique"),
    ],
)
def test_a_wrong_skeleton_is_refused(change, message):
    good = {
        "names": ("a", "left_b", "right_b"),
        "flip": (0, 2, 1),
        "limbs": ((0, 1),),
        "sigmas": (0.1, 0.1, 0.1),
    }
    skeleton.Skeleton(**good)
    with pytest.raises(ValueError, match=message):
        skeleton.Skeleton(**(good | change))
