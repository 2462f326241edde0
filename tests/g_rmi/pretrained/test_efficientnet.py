"""EfficientNet-Lite's import, against features and names of the original implementation."""

import re

import jax
import numpy as np
import pytest
import safetensors.numpy
from flax.traverse_util import flatten_dict

from g_rmi.nn.efficientnet import EfficientNetLiteConfig
from g_rmi.pose.config import PoseConfig
from g_rmi.pretrained import load_backbone, load_efficientnet
from tests.oracles import efficientnet_lite as oracle

SIZE = {"width": oracle.WIDTH, "depth": oracle.DEPTH}
CONFIG = EfficientNetLiteConfig(**SIZE)


@pytest.fixture(scope="module")
def original():
    """Names of features and weights to what the original has there."""
    arrays = dict(np.load(oracle.FIXTURE))
    rows = [name.split(" ") for name in arrays.pop("names").tolist()]
    shapes = {name: tuple(int(side) for side in sides if side) for name, *sides in rows}
    return arrays, oracle.weights(shapes)


@pytest.mark.parametrize("norm", ["batch", "frozen"])
def test_features_are_the_originals(original, norm):
    wanted, state = original
    config = PoseConfig(backbone=CONFIG, output_stride=32, norm=norm)
    variables = load_backbone(CONFIG, state)
    run = jax.jit(lambda image: config.features().apply(variables, config.normalise(image)))
    found = run(oracle.picture())
    assert wanted.keys() == {"block1", "block2", "block3", "block4"}
    for name, features in wanted.items():
        scale = np.abs(features).max()
        np.testing.assert_allclose(found[name], features, atol=1e-5 * scale, err_msg=name)


def test_every_weight_has_its_place(original):
    _, state = original
    kept = {n: v for n, v in state.items() if not re.match(r"_conv_head|_bn1|_fc|.*_tracked$", n)}
    variables = flatten_dict(load_efficientnet(state, **SIZE), sep="/")
    assert len(variables) == len(kept)
    found = variables["params/block3_unit2/depthwise/kernel"]
    assert found[1, 0, 0, 5] == state["_blocks.5._depthwise_conv.weight"][5, 0, 1, 0]
    found = variables["params/block4_unit0/expand/kernel"]
    assert found[0, 0, 3, 7] == state["_blocks.7._expand_conv.weight"][7, 3, 0, 0]
    found = variables["batch_stats/block1_unit1/norm0/var"]
    np.testing.assert_array_equal(found, state["_blocks.1._bn0.running_var"])


def test_a_file(original, tmp_path):
    _, state = original
    safetensors.numpy.save_file(state, tmp_path / "lite.safetensors")
    found = load_backbone(CONFIG, tmp_path / "lite.safetensors")
    wanted = load_efficientnet(state, **SIZE)
    jax.tree.map(np.testing.assert_array_equal, found, wanted)


def test_all_misfits_are_named_at_once(original):
    state = dict(original[1])
    del state["_blocks.3._bn2.running_mean"], state["_conv_stem.weight"]
    state["_blocks.0._se_reduce.weight"] = np.zeros(3)
    state["_blocks.2._depthwise_conv.weight"] = np.zeros((48, 1, 3, 3))
    with pytest.raises(ValueError, match=r"EfficientNet-Lite 0\.25 x 0\.5: ") as error:
        load_efficientnet(state, **SIZE)
    for words in (
        "missing _blocks.3._bn2.running_mean",
        "missing _conv_stem.weight",
        "unknown _blocks.0._se_reduce.weight",
        "_blocks.2._depthwise_conv.weight of shape (3, 3, 1, 48) where (5, 5, 1, 48) is wanted",
    ):
        assert words in str(error.value)
    assert len(re.findall("missing|unknown|wanted", str(error.value))) == 4


def test_other_sizes_and_other_networks(original):
    _, state = original
    with pytest.raises(ValueError, match="10 units where 16 are wanted"):
        load_efficientnet(state)
    with pytest.raises(ValueError, match=r"of shape .* is wanted"):
        load_efficientnet(state, width=0.5, depth=0.5)
    resnets = {"conv1.weight": np.zeros((64, 3, 7, 7)), "layer1.0.conv3.weight": np.zeros(1)}
    with pytest.raises(ValueError, match=r"missing _conv_stem.weight.* unknown conv1.weight"):
        load_efficientnet(resnets, **SIZE)
