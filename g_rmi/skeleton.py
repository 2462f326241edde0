"""Keypoint sets: names, mirror pairs, limbs and OKS sigmas. COCO's 17 joints, and a way to add one.

Pure numpy, no jax: data-loading workers import this module.
"""

import dataclasses
import itertools
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

# A side's first word is its name here; the others are what tools write.
_SIDES = {"left": ("left", "l", "lt", "lft"), "right": ("right", "r", "rt", "rgt")}
_SIDE_OF = {word: side for side, words in _SIDES.items() for word in words}
_OPPOSITE = {"left": "right", "right": "left"}
_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[^\W_A-Za-z]+")


def _words(name: str) -> tuple[str, ...]:
    """The words of a joint's name, sides as "left" and "right"."""
    words = [word.lower() for word in _WORD.findall(name)]
    glued = re.fullmatch(r"(left|right)([a-z]{2,})", words[0]) if words else None  # "lefteye"
    words[:1] = glued.groups() if glued else words[:1]
    return tuple(_SIDE_OF.get(word, word) for word in words)


def side_of(name: str) -> str | None:
    """The side that a joint's name says, if any: left_eye, eye_left, "Left eye", L_ear, RKnee."""
    return next((word for word in _words(name) if word in _OPPOSITE), None)


def mirror_pairs(names: Sequence[str]) -> tuple[int, ...]:
    """For each joint that whose name says the other side of the same; else the joint itself.

    Where two names differ only in a glued side, "eyeleft" and "eyeright", "lank" and "rank", they
    are a pair, too; alone, neither says a side.
    """
    words = [_words(name) for name in names]
    index = {word: i for i, word in enumerate(words)} | {
        name.lower(): i for i, name in enumerate(names) if not side_of(name)
    }
    other = []
    for i, (name, each) in enumerate(zip(names, words)):
        opposite = tuple(_OPPOSITE.get(word, word) for word in each)
        keys = [opposite] if side_of(name) else _glued_opposites(name.lower())
        other.append(next((index[key] for key in keys if key in index), i))
    return tuple(j if other[j] == i else i for i, j in enumerate(other))


def _glued_opposites(name: str) -> list[str]:
    """What the other side of a joint would be called, if its name has a side that is no word."""
    swapped = re.sub("left|right", lambda side: _OPPOSITE[side[0]], name)
    first = re.sub("^[lr]", lambda letter: {"l": "r", "r": "l"}[letter[0]], name)
    return [each for each in (swapped, first) if each != name]


class JointClass(NamedTuple):
    """One of several classes with joints of their own."""

    name: str
    id: int  # of its category in COCO's files
    joints: int  # how many


@dataclasses.dataclass(frozen=True)
class Skeleton:
    """A keypoint set."""

    names: tuple[str, ...]  # joint names, in the order of every K axis
    flip: tuple[int, ...]  # `flip[k]` is the joint that k becomes in a mirrored image
    limbs: tuple[tuple[int, int], ...]  # pairs of joint indices to draw as sticks
    # OKS fall-off per joint, as in pycocotools' `kpt_oks_sigmas` (the k_i of the COCO formula is 2
    # sigma_i)
    sigmas: tuple[float, ...]
    # Of a set for several classes, see `join`: each, in the order of their blocks on the K axis.
    # None for people, or whatever else there is one class of.
    classes: tuple[JointClass, ...] = ()

    def __post_init__(self):
        k = len(self.names)
        if self.classes and sum(each.joints for each in self.classes) != k:
            raise ValueError(f"skeleton classes must share the {k} joints: {self.classes}")
        if len(set(self.names)) != k:
            raise ValueError(f"skeleton names are not unique: {self.names}")
        mirrored = dict(enumerate(self.flip))
        if mirrored != {j: i for i, j in mirrored.items()} or len(mirrored) != k:
            raise ValueError(f"skeleton flip must pair the {k} joints with each other: {self.flip}")
        if len(self.sigmas) != k or not all(0 < s < math.inf for s in self.sigmas):
            raise ValueError(f"skeleton needs {k} positive sigmas, got {self.sigmas}")
        if any(not 0 <= j < k for limb in self.limbs for j in limb):
            raise ValueError(f"skeleton limbs name joints outside 0..{k - 1}: {self.limbs}")

    def __len__(self) -> int:
        return len(self.names)

    @classmethod
    def create(
        cls, names: Sequence[str], *, limbs: Sequence[tuple[str, str]], sigmas: Sequence[float]
    ) -> "Skeleton":
        """Builds a skeleton from names alone: left and right, see `side_of`, mirror each other."""
        index = {name: i for i, name in enumerate(names)}
        for limb in limbs:
            if strangers := [name for name in limb if name not in index]:
                raise ValueError(
                    f"limb {limb} names {strangers[0]!r}, which is not one of {tuple(names)}"
                )
        return cls(
            names=tuple(names),
            flip=mirror_pairs(names),
            limbs=tuple((index[a], index[b]) for a, b in limbs),
            sigmas=tuple(float(s) for s in sigmas),
        )

    @classmethod
    def join(
        cls, classes: Mapping[str, "Skeleton"], ids: Sequence[int] | None = None
    ) -> "Skeleton":
        """The set of several classes, each with joints of its own, one block after the other.

        A joint is called by its class and its name, horse_nose; mirror pairs and limbs stay inside
        a block. The categories' `ids` are 1, 2, ... where none are given.
        """
        names, flip, limbs, sigmas = [], [], [], []
        for name, own in classes.items():
            first = len(names)
            names += [f"{name}_{joint}" for joint in own.names]
            flip += [first + k for k in own.flip]
            limbs += [(first + a, first + b) for a, b in own.limbs]
            sigmas += own.sigmas
        ids = range(1, len(classes) + 1) if ids is None else ids
        joined = tuple(JointClass(n, i, len(c)) for (n, c), i in zip(classes.items(), ids))
        return cls(tuple(names), tuple(flip), tuple(limbs), tuple(sigmas), joined)

    @property
    def blocks(self) -> dict[str, slice]:
        """The joints of each class; of a set without classes there are none."""
        ends = itertools.accumulate(each.joints for each in self.classes)
        return {each.name: slice(end - each.joints, end) for each, end in zip(self.classes, ends)}

    def of_class(self, name: str) -> "Skeleton":
        """The keypoint set of one class, as it was before `join`.

        Raises:
          KeyError: There is no such class.
        """
        block = self.blocks[name]
        first = block.start
        return Skeleton(
            names=tuple(joint.removeprefix(f"{name}_") for joint in self.names[block]),
            flip=tuple(k - first for k in self.flip[block]),
            limbs=tuple((a - first, b - first) for a, b in self.limbs if first <= a < block.stop),
            sigmas=self.sigmas[block],
        )

    def to_dict(self) -> dict[str, Any]:
        """The fields, for JSON; without classes where there are none."""
        values = dataclasses.asdict(self)
        return values if self.classes else {k: v for k, v in values.items() if k != "classes"}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Skeleton":
        """Reads `to_dict` of a skeleton back, also after a journey through JSON."""
        limbs = tuple((a, b) for a, b in values["limbs"])
        plain = {name: tuple(values[name]) for name in ("names", "flip", "sigmas")}
        classes = tuple(JointClass(*each) for each in values.get("classes", ()))
        return cls(**plain, limbs=limbs, classes=classes)

    def difference(self, other: "Skeleton") -> str | None:
        """How two sets that mean something else differ; limbs are only drawn."""
        mine, theirs = (list(each.blocks) for each in (self, other))
        if mine != theirs:
            return f"the classes {', '.join(mine) or 'none'}; not {', '.join(theirs) or 'none'}"
        for field in ("names", "sigmas"):
            mine, theirs = getattr(self, field), getattr(other, field)
            if mine != theirs:
                what = {"names": "joints"}.get(field, field)
                return f"the {what} {', '.join(map(str, mine))}; not {', '.join(map(str, theirs))}"
        return None

    @property
    def flip_index(self) -> np.ndarray:
        """`flip` as an index array, int32[K]."""
        return np.asarray(self.flip, np.int32)


# COCO's joints beside the nose, and their OKS fall-offs.
_SIGMAS = {
    "eye": 0.025,
    "ear": 0.035,
    "shoulder": 0.079,
    "elbow": 0.072,
    "wrist": 0.062,
    "hip": 0.107,
    "knee": 0.087,
    "ankle": 0.089,
}
_LIMBS = """
left_ankle-left_knee left_knee-left_hip right_ankle-right_knee right_knee-right_hip
left_hip-right_hip left_shoulder-left_hip right_shoulder-right_hip left_shoulder-right_shoulder
left_shoulder-left_elbow right_shoulder-right_elbow left_elbow-left_wrist right_elbow-right_wrist
left_eye-right_eye nose-left_eye nose-right_eye left_eye-left_ear right_eye-right_ear
left_ear-left_shoulder right_ear-right_shoulder
"""
COCO = Skeleton.create(
    names=("nose", *(f"{side}_{part}" for part in _SIGMAS for side in ("left", "right"))),
    limbs=[(a, b) for a, b in (limb.split("-") for limb in _LIMBS.split())],
    sigmas=(0.026, *np.repeat(list(_SIGMAS.values()), 2)),
)
_COCO_BY_WORDS = {frozenset(_words(name)): name for name in COCO.names}


def coco_name(name: str) -> str | None:
    """COCO's name of a joint that is written otherwise: "Left Eye", eye_left, LEye; or None."""
    return _COCO_BY_WORDS.get(frozenset(_words(name)))
