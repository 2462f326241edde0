"""What every head promises, whichever there are: a table of all members of `Head`."""

import dataclasses
import itertools
import json
import typing
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.explain import titled
from experiments.parts.experiment import PoseExperiment, experiment_from_dict
from g_rmi.config import OptimConfig, TrainConfig, flatten, from_dict, to_dict
from g_rmi.inference.load import load_task
from g_rmi.nn.resnet import ResNetConfig
from g_rmi.pose.config import PoseConfig
from g_rmi.pose.heads import Head
from g_rmi.pose.heads.cascade import Cascade
from g_rmi.pose.heads.chain.head import Chain
from g_rmi.pose.heads.head import Reading, decodings
from g_rmi.pose.heads.parts import Parts
from g_rmi.pose.heads.recurrent.head import Recurrent
from g_rmi.pose.onnx import to_onnx
from g_rmi.pose.task import PoseTask
from g_rmi.pose.views import turns
from g_rmi.skeleton import Skeleton
from g_rmi.training.loop import train
from g_rmi.training.optim import make_optimizer
from g_rmi.training.sharding import data_mesh
from g_rmi.training.state import create_state
from g_rmi.training.step import train_step
from g_rmi.types import Grid, PoseBatch
from tests.g_rmi.training.toy import Batches
from tests.networks import FACE, save
from tests.networks import draw as drawn_to_save

GRID = Grid(49, 33)
KINDS = {kind.kind: kind for kind in typing.get_args(Head) or (Head,)}
# For maps of stride 4, and small.
SMALL = {
    "disks": {"loss_stride": 4, "visibility_weight": 1.0},
    "parts": {"loss_stride": 4},
    "cascade": {"hourglass_channels": 8, "hourglass_levels": 2},
    "recurrent": {"channels": 4, "kernels": (3, 5)},
    "chain": {"channels": 8, "decoder_channels": 8, "doublings": 0, "target_sigma": 4.0},
}
HEADS = {kind: dataclasses.replace(head(), **SMALL.get(kind, {})) for kind, head in KINDS.items()}
ALL = pytest.mark.parametrize("kind", HEADS)
# What compiles long, and does not hang on the head, is quick of the first one alone.
FIRST, *OTHERS = HEADS
ALL_IN_TIME = pytest.mark.parametrize(
    "kind", [FIRST, *(pytest.param(kind, marks=pytest.mark.slow) for kind in OTHERS)]
)


def task(kind, skeleton=FACE, **changes):
    config = PoseConfig(
        backbone=ResNetConfig(depth=26, width=4),
        output_stride=16,
        fpn_channels=4,
        norm="group",
        crop_height=GRID.height,
        crop_width=GRID.width,
        head=HEADS[kind],
    )
    return PoseTask(dataclasses.replace(config, **changes), skeleton)


def draw(task, seed=0):
    """Random variables; numpy draws them, for nothing to compile."""
    random = np.random.default_rng(seed)
    shapes = jax.eval_shape(task.init, jax.random.key(0))
    return jax.tree.map(lambda x: jnp.asarray(0.3 * random.normal(size=x.shape), x.dtype), shapes)


def labels(seed=0):
    random = np.random.default_rng(seed)
    return PoseBatch(
        jnp.zeros((*GRID, 3), jnp.uint8),
        jnp.asarray(random.uniform((8, 8), (24, 40), (3, 2)), jnp.float32),
        jnp.ones(3, bool),
        jnp.zeros(3, bool),
        jnp.ones(3, bool),
        jnp.ones(3, bool),
        jnp.zeros((1, 3, 2), jnp.float32),
        jnp.zeros((1, 3), bool),
        jnp.ones(()),
    )


def maps_that_say(head, truth):
    """The maps of a perfect network, from the targets: those of the names of the head's fields."""
    targets = head.targets(truth, GRID, FACE)
    if head.kind == "chain":
        points = np.asarray(targets.keypoints) / 4
        x, y = np.meshgrid(np.arange(9), np.arange(13))
        square = (x[..., None] - points[:, 0]) ** 2 + (y[..., None] - points[:, 1]) ** 2
        p = np.exp(-square / 2)  # the targets' spread is a cell
        maps = {"probability": p / p.sum((0, 1)), "logits": -square / 2}
        return {name: jnp.asarray(x, jnp.float32) for name, x in maps.items()}
    maps = {field.name: getattr(targets, field.name) for field in head.fields}
    # The logarithm of the odds of 0 and 1.
    maps |= {f.name: 20 * maps[f.name] - 10 for f in head.fields if f.logits}
    if "pairwise" in maps:  # of one crop: what the network carries beside its maps
        maps["pairwise_std"] = jnp.full((3, 3, 2), 8.0)
    return maps


@ALL
def test_from_targets_to_joints_within_a_pixel(kind):
    head, truth = HEADS[kind], labels()
    head = dataclasses.replace(head, radius=8.0) if hasattr(head, "radius") else head
    maps = maps_that_say(head, truth)
    fine = {"hough", "hough_oks", "argmax_offset", "dark", "expectation"} & set(decodings(head))
    for decoding in decodings(head):
        how = Reading(GRID, FACE.sigmas, 1.0, decoding)
        poses = head.decode(maps, how)
        error = np.linalg.norm(poses.keypoints - truth.keypoints, axis=-1).max()
        assert error < (1 if decoding in fine else 9), decoding
        assert (poses.keypoint_scores > head.drawn_from(decoding)).all()
    assert head.decoding in fine


@ALL
def test_the_loss_of_what_is_true_is_small_and_of_what_is_unlabelled_nothing(kind):
    head, truth = HEADS[kind], labels()
    targets = head.targets(truth, GRID, FACE)
    perfect, noise = maps_that_say(head, truth), np.random.default_rng(1)
    wrong = {name: jnp.asarray(noise.normal(size=x.shape), x.dtype) for name, x in perfect.items()}
    wrong |= {name: x for name, x in perfect.items() if name.endswith("_std")}
    total = [sum(head.losses(maps, targets, GRID).values()) for maps in (perfect, wrong)]
    assert total[0] < 0.05 * total[1]
    nothing = head.targets(truth._replace(labelled=jnp.zeros(3, bool)), GRID, FACE)
    assert sum(head.losses(wrong, nothing, GRID).values()) == 0
    assert head.losses(wrong, targets, GRID).keys() <= head.weights.keys()


@ALL
def test_gradients_reach_all_of_the_head_and_are_finite(kind):
    network, truth = task(kind), labels()
    state = draw(network)
    params = state.pop("params")
    image = np.random.default_rng(0).integers(0, 256, (1, *GRID, 3), np.uint8)
    batch = PoseBatch(*(x[None] for x in truth))._replace(image=jnp.asarray(image))

    def loss(params):
        return network.loss(params, state, batch, jax.random.key(0), train=True)[0]

    gradient = jax.jit(jax.grad(loss))(params)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradient))
    own = {name: tree for name, tree in gradient.items() if name not in ("trunk", "top_down")}
    assert own
    flat = jax.tree_util.tree_leaves_with_path(own)
    assert not [jax.tree_util.keystr(path) for path, leaf in flat if not np.abs(leaf).max() > 0]


@ALL
def test_both_tests_of_views_mirror_exactly(kind):
    network = task(kind)
    variables, flip = draw(network), FACE.flip_index
    image = np.random.default_rng(0).integers(0, 256, (1, 3, *GRID, 3), np.uint8)

    @jax.jit
    def predict(crops):
        return network.predict(variables, crops, flip_test=True, turns=turns(GRID))

    straight, swapped = predict(image), predict(image[:, [0, 2, 1], :, ::-1])
    for field in network.config.head.fields:
        expected = np.asarray(swapped[field.name])[:, :, ::-1]
        for axis in range(3, 3 + field.joints):
            expected = np.take(expected, flip, axis=axis)
        sign = np.float32([-1, 1]) if field.vector else 1
        size = np.abs(expected).max()
        np.testing.assert_allclose(straight[field.name], expected * sign, atol=1e-4 * size)


@ALL
def test_it_is_drawn_and_exported_without_a_line_of_its_own(kind):
    network = task(kind)
    variables = draw(network)
    image = jnp.zeros((1, *GRID, 3), jnp.uint8)
    maps = {name: values[0] for name, values in jax.jit(network.predict)(variables, image).items()}
    pages = titled(network, maps, 1, network.decoding(None))
    names = [title.partition(":")[0] for title in pages]
    assert names == [*(field.name for field in network.config.head.fields), "score"]
    assert all(page.shape[:2] == tuple(GRID) for page in pages.values())
    pytest.importorskip("jax2onnx")
    assert to_onnx(network, variables)[1] < 1e-2


@ALL
def test_its_settings_read_back_and_have_flags_of_their_own(kind):
    experiment = PoseExperiment(model=PoseConfig(head=HEADS[kind]))
    values = json.loads(json.dumps(to_dict(experiment)))
    assert experiment_from_dict(values) == experiment
    names = (name.rpartition(".")[2] for name, _ in flatten(values))
    flags = [name for name in names if name != "kind"]  # `--head` and `--backbone` name those
    assert len(set(flags)) == len(flags)


@ALL_IN_TIME
def test_half_precision_says_about_the_same(kind):
    network = task(kind)
    coarse = task(kind, dtype="bfloat16")
    # Small weights: what is to be compared is rounding, not chaos.
    variables = jax.tree.map(lambda x: 0.3 * x, draw(network))
    image = np.random.default_rng(0).integers(0, 256, (1, *GRID, 3), np.uint8)
    fine, rounded = (jax.jit(each.predict)(variables, image) for each in (network, coarse))
    for name, maps in fine.items():
        assert rounded[name].dtype == jnp.float32
        assert np.corrcoef(maps.ravel(), rounded[name].ravel())[0, 1] > 0.95


@ALL
@pytest.mark.parametrize("joints", [1, pytest.param(133, marks=pytest.mark.slow)])
def test_any_number_of_joints_without_mirror_images_or_limbs(kind, joints):
    names = tuple(f"joint {k}" for k in range(joints))
    network = task(kind, Skeleton(names, tuple(range(joints)), (), (0.1,) * joints))
    variables = jax.eval_shape(network.init, jax.random.key(0))
    batch = jax.tree.map(lambda x: jax.ShapeDtypeStruct((2, *x.shape), x.dtype), labels())
    maps = jax.eval_shape(network.predict, variables, batch.image)
    assert jax.eval_shape(network.decode, maps).keypoints.shape == (2, joints, 2)
    if joints > 1:  # of a chain the gradient takes minutes
        return
    flags = jax.ShapeDtypeStruct((2, joints), bool)
    batch = batch._replace(
        **dict.fromkeys(("visible", "occluded", "visibility_known", "labelled"), flags),
        keypoints=jax.ShapeDtypeStruct((2, joints, 2), jnp.float32),
        other_keypoints=jax.ShapeDtypeStruct((2, 0, joints, 2), jnp.float32),
        other_visible=jax.ShapeDtypeStruct((2, 0, joints), bool),
    )
    params = variables.pop("params")

    def loss(params, state, batch):
        return network.loss(params, state, batch, jax.random.key(0), train=True)[0]

    gradient = jax.eval_shape(jax.grad(loss), params, variables, batch)
    assert jax.tree.structure(gradient) == jax.tree.structure(params)


@ALL
def test_joints_without_a_place_leave_losses_finite(kind):
    head, truth = HEADS[kind], labels()
    maps = maps_that_say(head, truth)

    @jax.jit
    def losses(crop):
        return head.losses(maps, head.targets(crop, GRID, FACE), GRID)

    places = [np.nan, np.inf, -400.0, 1e30], [True, False]
    for place, visible in itertools.product(*places):
        crop = truth._replace(
            keypoints=jnp.full((3, 2), place, jnp.float32), visible=jnp.full(3, visible)
        )
        assert all(np.isfinite(value) for value in losses(crop).values()), (place, visible)


@ALL
def test_a_training_leaves_what_is_loaded_again(kind, tmp_path):
    experiment = PoseExperiment(model=task(kind).config)
    network = experiment.model.task()
    save(tmp_path, experiment, network)
    loaded, variables = load_task(tmp_path)
    assert loaded == network
    jax.tree.map(np.testing.assert_array_equal, variables, drawn_to_save(network))


@ALL_IN_TIME
def test_a_stopped_training_goes_on_to_the_same_bits(kind, tmp_path):
    head = HEADS[kind]
    if hasattr(head, "truth_steps"):  # in the middle of its schedule
        head = dataclasses.replace(head, truth_steps=6)
    network = task(kind, head=head)

    def make(random, size):
        batch = jax.tree.map(lambda x: np.stack([x] * size), labels())
        image = random.integers(0, 256, batch.image.shape, np.uint8)
        return batch._replace(image=image)

    def run(workdir, steps):
        config = TrainConfig(steps=steps, batch_size=4, checkpoint_every=100, evaluate_every=0)
        optim = OptimConfig(learning_rate=0.01, ema_decay=0.9)
        batches, records = Batches(make, size=4), ({"x": 1}, {})
        mesh = data_mesh(jax.devices()[:1])
        options = {"config_dict": records[0], "data_fingerprint": records[1], "mesh": mesh}
        return train(network, config, optim, batches, workdir=workdir, **options)

    whole = run(tmp_path / "whole", 4)
    run(tmp_path / "parts", 2)
    parts = run(tmp_path / "parts", 4)
    for name in ("params", "average"):
        jax.tree.map(np.testing.assert_array_equal, getattr(whole, name), getattr(parts, name))


@pytest.mark.slow
@pytest.mark.parametrize(
    "head",
    [
        Parts(radius=6.0, offset_std=3.0, loss_stride=4),
        Cascade(radius=6.0, sigma=4.0, hourglass_channels=16, hourglass_levels=2),
        Recurrent(channels=8, kernels=(3, 5), sigma=4.0),
        Chain(channels=16, decoder_channels=8, doublings=0, target_sigma=4.0, truth_steps=200),
    ],
    ids=lambda head: head.kind,
)
def test_a_few_crops_are_learned_by_heart(head):
    """Joints are spots of three colours; most are found within 3 of 49 pixels."""
    config = dataclasses.replace(
        task(head.kind).config,
        head=head,
        backbone=ResNetConfig(depth=26, width=16),
        fpn_channels=16,
    )
    network, rng = PoseTask(config, FACE), np.random.default_rng(0)
    batch = jax.tree.map(lambda x: jnp.stack([x] * 6), labels())
    points = rng.uniform((6, 6), (26, 42), (6, 3, 2)).astype(np.float32)
    here = np.stack(np.meshgrid(np.arange(33), np.arange(49)), axis=-1)
    square = ((here[None, :, :, None] - points[:, None, None]) ** 2).sum(-1)
    image = (255 * np.exp(-square / 18)).astype(np.uint8)
    batch = batch._replace(image=jnp.asarray(image), keypoints=jnp.asarray(points))
    optim = OptimConfig(optimizer="adamw", learning_rate=0.01, schedule="cosine", ema_decay=0.0)
    optimizer = make_optimizer(optim, 400)
    state = create_state(network, optimizer, jax.random.key(0), average=False)
    step = jax.jit(train_step(network, optimizer))
    for _ in range(400):
        state, metrics = step(state, batch)
        assert metrics["finite"].compute()
    poses = jax.jit(lambda v: network.decode(network.predict(v, batch.image)))(state.variables)
    error = np.linalg.norm(np.asarray(poses.keypoints) - points, axis=-1)
    assert (error < 3).mean() > 0.9, np.sort(error.ravel())


@ALL_IN_TIME
def test_the_joints_of_a_class_are_all_that_is_taught_and_read(kind):
    other = Skeleton.create(["nose", "left_tip", "right_tip", "end"], limbs=[], sigmas=[0.1] * 4)
    skeleton = Skeleton.join({"face": FACE, "other": other})
    both, (head, blocks) = task(kind, skeleton), (HEADS[kind], skeleton.blocks)
    shape = partial(both.network.init_with_output, jax.random.key(0), train=True)
    image = jnp.zeros((1, *GRID, 3), jnp.uint8)
    shapes, _ = jax.eval_shape(shape, image)
    random = np.random.default_rng(1)
    maps = {
        name: jnp.asarray(0.1 + random.uniform(size=x.shape[1:]), jnp.float32)
        for name, x in shapes.items()
    }
    crop = joints_of(labels(), 7, blocks["face"])
    targets = head.targets(crop, GRID, skeleton)
    total = lambda maps: sum(head.losses(maps, targets, GRID).values())  # noqa: E731
    slopes = jax.grad(total)(maps)
    names = [f.name for f in head.fields if f.name in slopes]
    slopes = {f.name: slopes.get(f.name, maps[f.name])[None] for f in head.fields}
    # A probability is not what its loss sees.
    seen = [name for name in names if name != "probability"]
    face, rest = (both.of_class(name).block(slopes) for name in ("face", "other"))
    assert all(np.abs(face[name]).sum() > 0 for name in seen)
    assert all(np.abs(rest[name]).sum() == 0 for name in seen)
    whole = both.decode({name: x[None] for name, x in maps.items()})
    for name, block in blocks.items():
        one = both.of_class(name)
        poses = one.decode(one.block({name: x[None] for name, x in maps.items()}))
        np.testing.assert_array_equal(poses.keypoints, whole.keypoints[:, block])
        np.testing.assert_array_equal(poses.keypoint_scores, whole.keypoint_scores[:, block])
        assert poses.scores.shape == (1,)


def joints_of(crop, count, block):
    """A crop with the joints of one block among so many."""
    keypoints, flags = jnp.zeros((count, 2)), jnp.zeros(count, bool)
    flags = flags.at[block].set(True)
    return crop._replace(
        keypoints=keypoints.at[block].set(crop.keypoints),
        visible=flags,
        occluded=jnp.zeros(count, bool),
        visibility_known=flags,
        labelled=flags,
        other_keypoints=jnp.zeros((1, count, 2)),
        other_visible=jnp.zeros((1, count), bool),
    )


def test_heads_are_told_apart():
    assert len(set(KINDS)) == len(KINDS)
    for one, other in itertools.permutations(KINDS, 2):
        assert from_dict(Head, {"kind": one}) != from_dict(Head, {"kind": other})
    with pytest.raises(ValueError, match=r"kind = 'disk'"):
        from_dict(Head, {"kind": "disk"})
