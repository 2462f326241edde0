"""Networks of a few joints: what one of other joints, or with another head, takes from them."""

import jax
import numpy as np
import pytest

from g_rmi.nn.resnet import ResNetConfig
from g_rmi.parts.config import PartsConfig
from g_rmi.pose.config import PoseConfig
from g_rmi.pose.heads.chain.head import Chain
from g_rmi.pose.heads.disks import Disks
from g_rmi.pose.heads.parts import Parts
from g_rmi.pose.transfer import transfer
from g_rmi.skeleton import Skeleton

SMALL = {"backbone": ResNetConfig(depth=26, width=8), "output_stride": 32, "fpn_channels": 8}


def body(*names):
    return Skeleton.create(names, limbs=[], sigmas=[0.1] * len(names))


OLD, NEW = body("nose", "tail", "ear"), body("ear", "paw", "nose", "whisker")


def network(head, skeleton, seed, config=PoseConfig):
    crop = {"crop_height": 33, "crop_width": 33} if config is PoseConfig else {}
    task = config(head=head, **SMALL, **crop).task(skeleton)
    shapes = jax.eval_shape(task.init, jax.random.key(0))
    rng = np.random.default_rng(seed)
    return task, jax.tree.map(lambda x: rng.normal(size=x.shape).astype(np.float32), shapes)


@pytest.fixture(scope="module")
def disks():
    return network(Disks(), OLD, 0)


def test_joints_are_taken_by_name(disks):
    task, given = disks
    new, fresh = network(Disks(), NEW, 1)
    variables, joints = transfer(given, task, new, fresh)
    assert joints == ("ear", "nose")
    old, new, start = (v["params"] for v in (given, variables, fresh))
    assert jax.tree.all(jax.tree.map(np.array_equal, new["trunk"], old["trunk"]))
    assert jax.tree.all(jax.tree.map(np.array_equal, new["top_down"], old["top_down"]))
    for name in ("heatmap", "auxiliary"):
        kernel = new[name]["kernel"]
        np.testing.assert_array_equal(kernel[..., [0, 2]], old[name]["kernel"][..., [2, 0]])
        np.testing.assert_array_equal(kernel[..., [1, 3]], start[name]["kernel"][..., [1, 3]])
        np.testing.assert_array_equal(new[name]["bias"][[0, 2]], old[name]["bias"][[2, 0]])
    x_and_y = old["offset"]["bias"].reshape(3, 2), new["offset"]["bias"].reshape(4, 2)
    np.testing.assert_array_equal(x_and_y[1][[0, 2]], x_and_y[0][[2, 0]])
    np.testing.assert_array_equal(new["offset"]["bias"][2:4], start["offset"]["bias"][2:4])


def test_classes_take_the_joints_of_a_network_without(disks):
    task, given = disks
    skeleton = Skeleton.join({"cat": body("nose", "paw"), "fish": body("tail", "nose")})
    new, fresh = network(Disks(), skeleton, 1)
    variables, joints = transfer(given, task, new, fresh)
    assert joints == ("cat_nose", "fish_tail", "fish_nose")
    old, now, start = (v["params"]["heatmap"]["bias"] for v in (given, variables, fresh))
    np.testing.assert_array_equal(now, [old[0], start[1], old[1], old[0]])


def test_joints_that_only_change_places_are_all_taken(disks):
    task, given = disks
    new, fresh = network(Disks(), body(*OLD.names[::-1]), 1)
    variables, joints = transfer(given, task, new, fresh)
    assert joints == OLD.names[::-1]
    kernels = (v["params"]["heatmap"]["kernel"] for v in (given, variables))
    np.testing.assert_array_equal(next(kernels)[..., ::-1], next(kernels))


def test_ordered_pairs_are_taken_where_both_joints_are_known():
    """From the head on crops to the same head on whole images, statistics included."""
    task, given = network(Parts(), OLD, 0)
    new, fresh = network(Parts(), NEW, 1, PartsConfig)
    variables, joints = transfer(given, task, new, fresh)
    assert joints == ("ear", "nose")

    def pairs(tree, names):
        mean = np.asarray(tree["statistics"]["pairs"]["mean"]).reshape(-1, 2)
        return dict(zip(((a, b) for a in names for b in names if a != b), mean.tolist()))

    old, now, start = (
        pairs(tree, skeleton.names)
        for tree, skeleton in ((given, OLD), (variables, NEW), (fresh, NEW))
    )
    known = {("ear", "nose"), ("nose", "ear")}
    assert now == {pair: (old if pair in known else start)[pair] for pair in now}


@pytest.mark.parametrize("head", [Parts(), Chain()])
def test_of_another_head_the_backbone_and_the_pyramid_are_taken(disks, head):
    task, given = disks
    new, fresh = network(head, OLD, 1)
    variables, joints = transfer(given, task, new, fresh)
    assert joints == ()
    for name, value in variables["params"].items():
        source = given if name in ("trunk", "top_down") else fresh
        assert jax.tree.all(jax.tree.map(np.array_equal, value, source["params"][name])), name


def test_a_head_whose_layers_are_its_joints_starts_anew():
    task, given = network(Chain(), OLD, 0)
    new, fresh = network(Chain(), NEW, 1)
    variables, joints = transfer(given, task, new, fresh)
    assert joints == ()
    assert jax.tree.all(
        jax.tree.map(np.array_equal, variables["params"]["chain"], fresh["params"]["chain"])
    )
