"""What every backbone promises to the networks that stand on it: both stages, heads, detectors."""

import dataclasses
import functools
import json
import typing

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy
from flax.traverse_util import flatten_dict

from experiments import train
from experiments.parts import cli
from experiments.parts.experiment import experiment_from_dict, of_kind, override
from experiments.parts.training import initial_variables
from g_rmi.config import to_dict
from g_rmi.nn.backbone import Backbone
from g_rmi.nn.efficientnet import EfficientNetLiteConfig
from g_rmi.nn.network import Backbone as AnyBackbone
from g_rmi.nn.resnet import ResNetConfig
from g_rmi.pose.heads import Head
from g_rmi.pose.heads.disks import Disks
from g_rmi.pose.task import PoseTask
from g_rmi.training.weights import write_weights
from g_rmi.types import Detections
from tests.networks import DETECTORS, FACE, PARTS, POSE
from tests.oracles import efficientnet_lite

SMALL = {
    "resnet": ResNetConfig(depth=26, width=4),
    "efficientnet_lite": EfficientNetLiteConfig(width=0.1, depth=0.3),
}
LITE = SMALL["efficientnet_lite"]
NETWORKS = {**DETECTORS, "parts": PARTS, "pose": POSE}
every_backbone = pytest.mark.parametrize("kind", SMALL)
every_network = pytest.mark.parametrize("name", NETWORKS)


def model(name, backbone, **changes):
    return dataclasses.replace(NETWORKS[name].model, backbone=backbone, **changes)


def drawn(shapes):
    """Scales and statistics far from ones and zeros; drawn by numpy, for nothing to compile."""
    random = np.random.default_rng(0)

    def draw(path, leaf):
        if path[-1].key in ("scale", "var"):
            return jnp.asarray(random.uniform(0.5, 1.5, leaf.shape), jnp.float32)
        scale = 1 / np.sqrt(max(1, np.prod(leaf.shape[:-1])))
        return jnp.asarray(random.normal(0, scale, leaf.shape), jnp.float32)

    return jax.tree_util.tree_map_with_path(draw, shapes)


def test_every_backbone_is_tried_here():
    assert {kind.kind for kind in typing.get_args(AnyBackbone)} == SMALL.keys()
    assert all(isinstance(backbone, Backbone) for backbone in SMALL.values())


@every_backbone
@every_network
def test_it_fills_every_network_and_comes_back(name, kind):
    """Of R-FCN and Faster R-CNN, block 4 lies in the box head; SSD has none."""
    task = model(name, SMALL[kind]).task()
    trunk = SMALL[kind].features(output_stride=16)
    image = jax.ShapeDtypeStruct((1, 33, 33, 3), jnp.float32)
    given = drawn(jax.eval_shape(trunk.init, jax.random.key(0), image))
    shapes = jax.eval_shape(task.init, jax.random.key(0))
    blank = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), shapes)
    filled = task.with_backbone(blank, given)
    assert jax.tree.map(np.shape, filled) == jax.tree.map(jnp.shape, shapes)
    if name == "ssd":
        given = {n: {m: v for m, v in t.items() if m[:6] != "block4"} for n, t in given.items()}
    jax.tree.map(np.testing.assert_array_equal, task.backbone(filled), given)


@pytest.mark.parametrize(
    ("head", "stride"),
    [*((head, 16) for head in typing.get_args(Head)), (Disks, 8), (Disks, 32)],
    ids=lambda value: getattr(value, "kind", value),
)
def test_every_head_stands_on_another_backbone(head, stride):
    """In bfloat16, with and without a pyramid: maps, and the cells they lie on."""
    for channels in (0, 8) if head is Disks else (0,):
        changes = {"head": head(), "output_stride": stride, "fpn_channels": channels}
        sides = {"crop_height": 97, "crop_width": 65}
        task = PoseTask(model("pose", LITE, dtype="bfloat16", **changes, **sides), FACE)
        variables = jax.eval_shape(task.init, jax.random.key(0))
        crops = jax.ShapeDtypeStruct((2, 97, 65, 3), jnp.uint8)
        maps = jax.eval_shape(functools.partial(task.predict, flip_test=True), variables, crops)
        assert {field.name for field in task.config.head.fields} <= maps.keys()
        assert all(x.dtype == jnp.float32 for x in maps.values())
        finest = 4 if channels else stride
        cells = maps[task.config.head.fields[0].name].shape[1:3]
        # Some heads enlarge the maps, none makes them coarser.
        assert cells[0] >= 96 // finest + 1
        assert (96 % (cells[0] - 1), 64 % (cells[1] - 1)) == (0, 0)


@pytest.mark.parametrize(
    "name", ["faster_rcnn", *(pytest.param(n, marks=pytest.mark.slow) for n in ("rfcn", "ssd"))]
)
def test_padding_never_changes_what_a_detector_finds(name):
    task = model(name, LITE, output_stride=16).task()
    variables = drawn(jax.eval_shape(task.init, jax.random.key(0)))
    random = np.random.default_rng(0)
    image = random.integers(0, 255, (2, 64, 96, 3)).astype(np.uint8)
    image[1] = image[0]
    image[1, 50:] = image[1, :, 70:] = 99
    size = jnp.array([[50, 70]] * 2)
    found = Detections(*map(np.asarray, jax.jit(task.predict)(variables, image, size)))
    assert found.valid.any()
    for one in found[:3]:
        np.testing.assert_array_equal(one[0], one[1])


def test_frozen_norms_stay_and_everything_else_learns():
    task = PoseTask(model("pose", LITE, norm="frozen"), FACE)
    variables = drawn(jax.eval_shape(task.init, jax.random.key(0)))
    image = jnp.asarray(np.random.default_rng(0).integers(0, 255, (2, 33, 33, 3)), jnp.uint8)

    def loss(params):
        maps, state = task.network.apply(
            {**variables, "params": params}, image, train=True, mutable=["batch_stats"]
        )
        return sum(jnp.sin(x).sum() for x in maps.values()), state

    gradient, state = jax.jit(jax.grad(loss, has_aux=True))(variables["params"])
    jax.tree.map(np.testing.assert_array_equal, state["batch_stats"], variables["batch_stats"])
    for path, value in flatten_dict(gradient["trunk"]).items():
        assert (value != 0).any() == (path[-1] == "kernel"), path


def given(*argv):
    """Parsed arguments of a training, and the weights that it starts from."""
    arguments = cli.parse(train.Arguments(), argv, prog="train")
    task = arguments.experiment.model.task()
    return arguments.experiment, initial_variables(arguments, task, {})


def test_pretrained_weights_are_read_for_either_stage(tmp_path):
    """Of the original's names; the other stage takes the backbone of a training."""
    names = np.load(efficientnet_lite.FIXTURE)["names"].tolist()
    shapes = {n: tuple(map(int, s.split())) for n, _, s in (row.partition(" ") for row in names)}
    state = efficientnet_lite.weights(shapes)
    file, other = tmp_path / "lite.safetensors", tmp_path / "pose.safetensors"
    safetensors.numpy.save_file(state, file)
    width, depth = f"--width={efficientnet_lite.WIDTH}", f"--depth={efficientnet_lite.DEPTH}"
    size = "--backbone=efficientnet_lite", width, depth
    kernel = state["_conv_stem.weight"].transpose(2, 3, 1, 0)

    options = f"--pretrained={file}", "--dtype=bfloat16"
    experiment, variables = given("--config=pose_synthetic", *size, *options)
    np.testing.assert_array_equal(variables["params"]["trunk"]["conv1"]["kernel"], kernel)
    write_weights(other, to_dict(experiment), variables)
    options = f"--pretrained={other}", "--norm=frozen"
    _, variables = given("--config=detector_ssd_small", *size, *options)
    rounded = kernel.astype(np.float16).astype(np.float32)
    np.testing.assert_array_equal(variables["params"]["trunk"]["conv1"]["kernel"], rounded)
    with pytest.raises(ValueError, match=r"pose.safetensors: backbone is efficientnet_lite there"):
        given("--config=detector_ssd_small", f"--init={other}")
    with pytest.raises(ValueError, match=r"pose.safetensors: width is 0.25 there, 0.5 here"):
        given("--config=detector_ssd_small", size[0], "--width=0.5", f"--init={other}")


def test_a_backbone_is_chosen_like_a_head():
    argv = ["--config=pose_small", "--backbone=efficientnet_lite", "--depth", "1.1"]
    experiment = cli.parse(train.Arguments(), argv, prog="train").experiment
    assert experiment.model.backbone == EfficientNetLiteConfig(depth=1.1)
    assert experiment_from_dict(json.loads(json.dumps(to_dict(experiment)))) == experiment
    argv = ["--config=detector_small", "--detector-kind=ssd", "--backbone=efficientnet_lite"]
    detector = cli.parse(train.Arguments(), argv, prog="train").experiment
    assert (detector.model.kind, detector.model.backbone) == ("ssd", EfficientNetLiteConfig())
    assert of_kind(detector, "rfcn", {}).model.backbone == EfficientNetLiteConfig()
    with pytest.raises(ValueError, match=r"did you mean 'efficientnet_lite'"):
        override(experiment, {"model.backbone.kind": "efficientnet"})
    with pytest.raises(ValueError, match=r"no field 'model.backbone.stem_width'"):
        override(experiment, {"model.backbone.stem_width": 4})
