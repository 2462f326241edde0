"""Keypoint sets."""

import dataclasses
import json

import numpy as np
import pytest

from g_rmi import skeleton
from g_rmi.skeleton import COCO, Skeleton


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


@pytest.mark.parametrize(
    ("left", "right"),
    [
        *(("left_eye", "right_eye"), ("eye_left", "eye_right"), ("left eye", "right eye")),
        *(("leftEye", "rightEye"), ("EyeLeft", "EyeRight"), ("L_ear", "R_ear"), ("ear_l", "ear_r")),
        *(("LShoulder", "RShoulder"), ("lKnee", "rKnee"), ("hip.L", "hip.R")),
        ("LEFT-HIP", "RIGHT-HIP"),
        *(("lefteye", "righteye"), ("L. Ankle", "R. Ankle"), ("l_hand_1", "r_hand_1")),
        ("Left", "Right"),
        ("rig:LeftArm", "rig:RightArm"),
        *(("mouth(left)", "mouth(right)"), ("L_F_Paw", "R_F_Paw"), ("Lt. Eye", "Rt. Eye")),
    ],
)  # fmt: skip
def test_sides_in_the_words_of_tools(left, right):
    assert (skeleton.side_of(left), skeleton.side_of(right)) == ("left", "right")
    assert skeleton.mirror_pairs(("nose", right, "upright", left)) == (0, 3, 2, 1)


@pytest.mark.parametrize("name", ["nose", "upright", "cleft", "neck", "", "ball", "上"])
def test_other_words_are_no_sides(name):
    assert skeleton.side_of(name) is None
    assert skeleton.mirror_pairs((name, "left_ear", "eye_right", "ear_L")) == (0, 1, 2, 3)


@pytest.mark.parametrize(
    ("left", "right"), [("lank", "rank"), ("Lhip", "Rhip"), ("eyeleft", "eyeright")]
)
def test_sides_glued_to_a_name_are_pairs_or_nothing(left, right):
    assert skeleton.mirror_pairs(("nose", right, "neck", left)) == (0, 3, 2, 1)
    assert skeleton.mirror_pairs(("nose", left, "neck")) == (0, 1, 2)


def test_sets_differ_by_what_they_mean_not_by_how_they_are_drawn():
    names, sigmas = ("a", "left_b", "right_b"), (0.1, 0.2, 0.3)
    one = skeleton.Skeleton.create(names, limbs=[("a", "left_b")], sigmas=sigmas)
    assert one.difference(skeleton.Skeleton.create(names, limbs=[], sigmas=sigmas)) is None
    other = skeleton.Skeleton.create(names, limbs=[], sigmas=(0.1, 0.2, 0.2))
    assert one.difference(other) == "the sigmas 0.1, 0.2, 0.3; not 0.1, 0.2, 0.2"


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
        ({"sigmas": (0.1, 0.1, float("nan"))}, "3 positive sigmas"),
        ({"sigmas": (0.1, float("inf"), 0.1)}, "3 positive sigmas"),
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


def test_classes_are_joined_and_parted():
    hand = Skeleton.create(
        ["wrist", "lefttip", "righttip"], limbs=[("wrist", "lefttip")], sigmas=[1.0] * 3
    )
    joined = Skeleton.join({"person": COCO, "hand": hand}, [1, 9])
    assert joined.blocks == {"person": slice(0, 17), "hand": slice(17, 20)}
    assert joined.names[16:18] == ("person_right_ankle", "hand_wrist")
    assert joined.flip[17:] == (17, 19, 18)
    assert joined.limbs[-1] == (17, 18)
    assert (joined.of_class("person"), joined.of_class("hand")) == (COCO, hand)
    assert Skeleton.from_dict(json.loads(json.dumps(joined.to_dict()))) == joined


def test_without_classes_nothing_is_written_of_them():
    assert COCO.classes == ()
    assert COCO.to_dict().keys() == {"names", "flip", "limbs", "sigmas"}
    assert COCO.to_dict() == {k: v for k, v in dataclasses.asdict(COCO).items() if k != "classes"}
    other = Skeleton.join({"person": COCO})
    assert other.difference(COCO) == "the classes person; not none"
