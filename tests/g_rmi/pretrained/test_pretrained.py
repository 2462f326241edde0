import re
import typing

import jax
import numpy as np
import pytest
import safetensors.numpy
from jax import numpy as jnp

from g_rmi.detector import DetectorConfig
from g_rmi.detector.ssd.config import SSDConfig
from g_rmi.nn.resnet import UNITS, ResNet, ResNetConfig
from g_rmi.pose.config import PoseConfig
from g_rmi.pose.task import PoseTask
from g_rmi.pretrained import load_resnet

WIDTH = 4


def torchvision_state(depth=26, width=WIDTH, stem=None, seed=0):
    """Names and shapes of torchvision's ResNets, written from its documentation."""
    random = np.random.default_rng(seed)
    stem = stem or width
    state = {}

    def conv(name, inputs, outputs, size):
        values = random.normal(size=(outputs, inputs, size, size))
        state[f"{name}.weight"] = values.astype(np.float32)

    def norm(name, channels):
        for weight in ("weight", "bias", "running_mean", "running_var"):
            state[f"{name}.{weight}"] = random.uniform(0.5, 1, channels).astype(np.float32)
        state[f"{name}.num_batches_tracked"] = np.array(7)

    conv("conv1", 3, stem, 7)
    norm("bn1", stem)
    inputs = stem
    for layer, units in enumerate(UNITS[depth], 1):
        middle = width * 2 ** (layer - 1)
        for unit in range(units):
            name = f"layer{layer}.{unit}"
            conv(f"{name}.conv1", inputs, middle, 1)
            norm(f"{name}.bn1", middle)
            conv(f"{name}.conv2", middle, middle, 3)
            norm(f"{name}.bn2", middle)
            conv(f"{name}.conv3", middle, 4 * middle, 1)
            norm(f"{name}.bn3", 4 * middle)
            if unit == 0:
                conv(f"{name}.downsample.0", inputs, 4 * middle, 1)
                norm(f"{name}.downsample.1", 4 * middle)
            inputs = 4 * middle
    state["fc.weight"] = np.zeros((1000, inputs), np.float32)
    state["fc.bias"] = np.zeros(1000, np.float32)
    return state


@pytest.mark.parametrize("norm", ["batch", "frozen"])
def test_every_weight_is_used_once(norm):
    state = torchvision_state()
    variables = load_resnet(state, depth=26, width=WIDTH)
    network = ResNet(depth=26, width=WIDTH, norm=norm)
    image = jnp.ones((1, 33, 33, 3))
    wanted = jax.eval_shape(network.init, jax.random.key(0), image)
    assert jax.tree.map(np.shape, variables) == jax.tree.map(jnp.shape, wanted)
    kept = [v for n, v in state.items() if not n.startswith("fc") and "num_batches" not in n]

    def sums(arrays):
        return sorted(np.asarray(array, np.float64).sum() for array in arrays)

    np.testing.assert_allclose(sums(jax.tree.leaves(variables)), sums(kept))


DETECTORS = typing.get_args(DetectorConfig)


@pytest.mark.parametrize("kind", [PoseConfig, *DETECTORS])
def test_every_network_takes_it(kind):
    resnet = load_resnet(torchvision_state(), depth=26, width=WIDTH)
    task = kind(backbone=ResNetConfig(depth=26, width=WIDTH), output_stride=16).task()
    wanted = jax.eval_shape(task.init, jax.random.key(0))
    blank = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), wanted)
    filled = task.with_backbone(blank, resnet)
    assert jax.tree.map(np.shape, filled) == jax.tree.map(jnp.shape, wanted)
    given = task.backbone(filled)
    if kind is SSDConfig:  # which ends with block 3
        rest = {n: {u: v for u, v in t.items() if "block4" not in u} for n, t in resnet.items()}
        jax.tree.map(np.testing.assert_array_equal, given, rest)
    else:
        jax.tree.map(np.testing.assert_array_equal, given, resnet)


@pytest.mark.parametrize("kind", [PoseConfig, *DETECTORS])
def test_the_resnet_of_an_ssd_fills_what_it_has(kind):
    """Another network that starts from an SSD keeps its own block 4."""
    resnet = load_resnet(torchvision_state(), depth=26, width=WIDTH)
    resnet = {n: {u: v for u, v in t.items() if "block4" not in u} for n, t in resnet.items()}
    task = kind(backbone=ResNetConfig(depth=26, width=WIDTH), output_stride=16).task()
    wanted = jax.eval_shape(task.init, jax.random.key(0))
    blank = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), wanted)
    filled = task.with_backbone(blank, resnet)
    assert jax.tree.map(np.shape, filled) == jax.tree.map(jnp.shape, wanted)
    first = task.backbone(filled)["params"]["conv1"]["kernel"]
    np.testing.assert_array_equal(first, resnet["params"]["conv1"]["kernel"])


def test_places_and_axes():
    state = torchvision_state()
    variables = load_resnet(state, depth=26, width=WIDTH)
    params, stats = variables["params"], variables["batch_stats"]
    kernel = params["block2_unit1"]["conv2"]["kernel"]
    assert kernel[0, 2, 1, 3] == state["layer2.1.conv2.weight"][3, 1, 0, 2]
    assert params["conv1"]["kernel"][6, 5, 2, 1] == state["conv1.weight"][1, 2, 6, 5]
    unit = "block4_unit0"
    np.testing.assert_array_equal(params[unit]["norm3"]["scale"], state["layer4.0.bn3.weight"])
    np.testing.assert_array_equal(
        stats[unit]["shortcut_norm"]["var"], state["layer4.0.downsample.1.running_var"]
    )


def test_a_stem_of_its_own_width():
    state = torchvision_state(stem=2 * WIDTH)
    variables = load_resnet(state, depth=26, width=WIDTH, stem_width=2 * WIDTH)
    config = PoseConfig(
        backbone=ResNetConfig(depth=26, width=WIDTH, stem_width=2 * WIDTH), output_stride=16
    )
    wanted = jax.eval_shape(PoseTask(config).init, jax.random.key(0))
    wanted = {name: tree["trunk"] for name, tree in wanted.items()}
    assert jax.tree.map(np.shape, variables) == jax.tree.map(jnp.shape, wanted)
    with pytest.raises(ValueError, match=r"conv1\.weight of shape .* is wanted"):
        load_resnet(state, depth=26, width=WIDTH)


@pytest.mark.parametrize("depth", UNITS)
def test_all_depths(depth):
    load_resnet(torchvision_state(depth, width=1), depth=depth, width=1)


def test_safetensors_file_in_half_precision(tmp_path):
    state = torchvision_state()
    half = {name: value.astype(np.float16) for name, value in state.items()}
    safetensors.numpy.save_file(half, tmp_path / "net.safetensors")
    variables = load_resnet(tmp_path / "net.safetensors", depth=26, width=WIDTH)
    assert {v.dtype for v in jax.tree.leaves(variables)} == {np.dtype("float32")}
    np.testing.assert_array_equal(
        variables["params"]["norm1"]["bias"], half["bn1.bias"].astype(np.float32)
    )


def test_all_misfits_are_named_at_once():
    state = torchvision_state()
    del state["layer3.1.bn2.running_mean"], state["conv1.weight"]
    state["layer1.0.se.weight"] = np.zeros(3)
    state["layer2.0.conv1.weight"] = np.zeros((8, 16, 3, 3))
    with pytest.raises(ValueError, match=r"ResNet-26") as error:
        load_resnet(state, depth=26, width=WIDTH)
    for words in (
        "missing layer3.1.bn2.running_mean",
        "missing conv1.weight",
        "unknown layer1.0.se.weight",
        "layer2.0.conv1.weight of shape (3, 3, 16, 8) where (1, 1, 16, 8) is wanted",
    ):
        assert words in str(error.value)
    assert len(re.findall("missing|unknown|wanted", str(error.value))) == 4


def test_the_classifier_may_be_absent_but_nothing_like_it_may_be_added():
    state = torchvision_state()
    headless = {n: v for n, v in state.items() if not re.search(r"^fc|num_batches", n)}
    load_resnet(headless, depth=26, width=WIDTH)
    with pytest.raises(ValueError, match=r"unknown layer1\.0\.fc\.weight"):
        load_resnet({**state, "layer1.0.fc.weight": np.zeros(1)}, depth=26, width=WIDTH)


def test_another_depth():
    with pytest.raises(ValueError, match=r"ResNet-50, not of depth = 101"):
        load_resnet(torchvision_state(50, width=1), depth=101, width=1)
    with pytest.raises(ValueError, match=r"must be one of 26, 50, 101, 152"):
        load_resnet({}, depth=34)


def test_files_of_other_kinds(tmp_path):
    with pytest.raises(ValueError, match=r"net\.pth: not a \.safetensors file.*convert"):
        load_resnet(tmp_path / "net.pth", depth=50)
    with pytest.raises(FileNotFoundError, match=r"net\.safetensors: no such file"):
        load_resnet(tmp_path / "net.safetensors", depth=50)
    (tmp_path / "net.safetensors").write_bytes(b"no tensors in here")
    with pytest.raises(ValueError, match=r"net\.safetensors: unreadable"):
        load_resnet(tmp_path / "net.safetensors", depth=50)
