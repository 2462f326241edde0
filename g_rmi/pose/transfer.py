"""Weights of a network of another head or other joints: what both share, joints by name."""

import dataclasses
from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from g_rmi.skeleton import Skeleton

_BELOW_THE_HEAD = "trunk", "top_down"


@runtime_checkable
class Network(Protocol):
    """The task of a network that ends in a pose head."""

    @property
    def config(self) -> Any:
        """Its settings, whose `task` makes the same of another keypoint set."""

    @property
    def skeleton(self) -> Skeleton:
        """Its joints."""


class Transfer(NamedTuple):
    """Variables to start from, and how much of them is old."""

    variables: dict[str, Any]
    joints: tuple[str, ...]  # whose weights come from the other network


def transfer(
    given: Mapping[str, Any], old: Network, new: Network, fresh: Mapping[str, Any]
) -> Transfer:
    """`fresh`, the variables of `new`, with whatever `given`, those of `old`, can tell it.

    Weights of the same name and shape are taken. Those that belong to joints, or to ordered pairs
    of joints, are taken for the joints that both keypoint sets call by the same name; other joints
    keep fresh values. Where only the new set has classes, a joint of each may come from the same.
    Of another head, or one whose layers are not the same for any number of
    joints, backbone and feature pyramid are taken alone.
    """
    source: dict[Any, Any] = flatten_dict(given)
    target: dict[Any, Any] = dict(flatten_dict(fresh))
    wider = _shapes(new.config, _with_another_joint(new.skeleton))
    alike = old.config.head.kind == new.config.head.kind and wider.keys() == target.keys()
    names = old.skeleton.names, _called(new.skeleton, old.skeleton)
    for path in target.keys() & source.keys():
        if alike or path[1] in _BELOW_THE_HEAD:
            arrays = np.asarray(target[path]), np.asarray(source[path])
            target[path] = _merged(*arrays, wider.get(path), *names)
    called = zip(new.skeleton.names, names[1])
    joints = tuple(name for name, theirs in called if alike and theirs in names[0])
    return Transfer(unflatten_dict(target), joints)


def _called(new: Skeleton, old: Skeleton) -> tuple[str, ...]:
    """What an old set calls the joints of a new one: without their classes, if it has none."""
    if old.classes or not new.classes:
        return new.names
    return tuple(joint for name in new.blocks for joint in new.of_class(name).names)


def _merged(
    fresh: np.ndarray,
    given: np.ndarray,
    wider: tuple[int, ...] | None,
    old: tuple[str, ...],
    new: tuple[str, ...],
) -> np.ndarray:
    """The given values where they fit, else the fresh ones.

    `wider` is the shape with one joint more; the axis in which it differs belongs to the joints.
    """
    sizes = enumerate(zip(fresh.shape, wider or fresh.shape))
    axes = [axis for axis, (size, more) in sizes if size != more]
    if not axes:
        return given if given.shape == fresh.shape else fresh
    axis = axes[0]
    if not wider or np.delete(given.shape, axis).tolist() != np.delete(fresh.shape, axis).tolist():
        return fresh
    first, second = np.moveaxis(fresh, axis, 0), np.moveaxis(given, axis, 0)
    for keys in _singles, _pairs:
        theirs, ours, more = keys(old), keys(new), keys((*new, ""))
        each = len(first) // max(1, len(ours))
        wanted = each * len(ours), each * len(more), each * len(theirs)
        if (len(first), wider[axis], len(second)) == wanted:
            blocks = first.reshape(len(ours), each, *first.shape[1:]).copy()
            source = second.reshape(len(theirs), each, *second.shape[1:])
            for i, key in enumerate(ours):
                if key in theirs:
                    blocks[i] = source[theirs.index(key)]
            return np.moveaxis(blocks.reshape(first.shape), 0, axis)
    return fresh


def _singles(names: tuple[str, ...]) -> list[Any]:
    return list(names)


def _pairs(names: tuple[str, ...]) -> list[Any]:
    """In the order of `g_rmi.pose.heads.parts.square`."""
    return [(a, b) for a in names for b in names if a != b]


def _with_another_joint(skeleton: Skeleton) -> Skeleton:
    """To see which weights grow with the joints."""
    return dataclasses.replace(
        skeleton,
        names=(*skeleton.names, "".join(skeleton.names) + "+"),
        flip=(*skeleton.flip, len(skeleton)),
        sigmas=(*skeleton.sigmas, 1.0),
        classes=(),
    )


def _shapes(config: Any, skeleton: Skeleton) -> dict[tuple[str, ...], tuple[int, ...]]:
    variables = jax.eval_shape(config.task(skeleton).init, jax.random.key(0))
    leaves: dict[Any, Any] = flatten_dict(variables)
    return {path: leaf.shape for path, leaf in leaves.items()}
