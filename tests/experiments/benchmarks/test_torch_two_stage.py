"""The PyTorch twin finds the same people: an oracle of the whole inference path."""

import dataclasses
import json
import sys

import jax
import numpy as np
import pytest

from data_pipeline.synthetic import scene
from experiments.benchmarks import pipeline as benchmark
from g_rmi.detector.faster_rcnn.task import FasterRCNN
from g_rmi.inference.pipeline import PosePipeline
from g_rmi.inference.settings import Settings
from g_rmi.pose.task import PoseTask
from tests import networks


def twin_of(pipeline):
    pytest.importorskip("torch")
    from tests.oracles.torch_two_stage import TwoStage

    return TwoStage(pipeline)


# Enough of everything for all three suppressions to drop some.
DETECTOR = dataclasses.replace(networks.DETECTOR.model, candidates=120, proposals=40, detections=30)


def untrained(detector=DETECTOR, pose=networks.POSE.model):
    """Tiny networks in which every variable matters: no scale is 1 and no mean is 0."""
    random = np.random.default_rng(1)

    def shake(path, leaf):
        if path[-1].key == "kernel":
            return leaf
        return leaf * random.uniform(0.5, 1, leaf.shape) + 0.2 * random.uniform(0, 1, leaf.shape)

    tasks = FasterRCNN(detector), PoseTask(pose)
    variables = (jax.tree_util.tree_map_with_path(shake, networks.draw(task)) for task in tasks)
    trees = (jax.tree.map(lambda x: x.astype(np.float32), tree) for tree in variables)
    variables = dict(zip(("detector", "pose"), trees, strict=True))
    return PosePipeline(
        *tasks,
        variables,
        Settings(min_box_score=0.0, min_score=0.0, max_people=20, crops_at_once=8),
    )


def atrous():
    """As the paper's networks: output stride 8 by dilation, and no feature pyramid."""
    detector = dataclasses.replace(DETECTOR, output_stride=8, rpn_dilation=2, norm="frozen")
    pose = dataclasses.replace(networks.POSE.model, output_stride=8, fpn_channels=0)
    return untrained(detector, pose)


@pytest.fixture(scope="module", params=[untrained, atrous])
def twins(request):
    pipeline = request.param()
    return pipeline, twin_of(pipeline)


def assert_same(ours, theirs):
    assert len(ours.scores) == len(theirs.scores)
    np.testing.assert_allclose(ours.boxes, theirs.boxes, atol=1e-2)
    np.testing.assert_allclose(ours.scores, theirs.scores, rtol=1e-3)
    np.testing.assert_allclose(ours.keypoint_scores, theirs.keypoint_scores, rtol=5e-3, atol=1e-6)
    # Two pixels may have the same votes but for rounding.
    apart = np.linalg.norm(ours.keypoints - theirs.keypoints, axis=-1)
    assert np.mean(apart < 1e-2) > 0.97


# All go through one compiled program; the last two are sampled from smaller levels.
@pytest.mark.slow
@pytest.mark.parametrize("shape", [(60, 79), (40, 100), (61, 61), (200, 280), (150, 320)])
def test_the_same_people(twins, shape):
    image = networks.scene(*shape, seed=sum(shape))
    ours, theirs = (find(image) for find in twins)
    assert len(ours.scores) >= 2
    assert_same(ours, theirs)


@pytest.mark.slow
def test_the_same_people_with_the_shipped_weights():
    pipeline = PosePipeline.load(
        settings=Settings(decoding="hough", min_box_score=0.05, min_score=0.0)
    )
    twin = twin_of(pipeline)
    for i in range(3):
        image = scene(np.random.default_rng((0, i)), height=480, width=600)[0]
        assert_same(pipeline(image), twin(image))


def test_nobody():
    settings = Settings(min_box_score=1.0, max_people=6)
    nobody = twin_of(dataclasses.replace(untrained(), settings=settings))(networks.scene())
    assert nobody.keypoints.shape == (0, 17, 2)


def test_what_the_twin_cannot_do_is_named():
    config = dataclasses.replace(DETECTOR, roi="align", norm="group")
    other = dataclasses.replace(untrained(), detector=FasterRCNN(config))
    with pytest.raises(ValueError, match="norm = group, roi = align: the PyTorch twin"):
        twin_of(other)


def test_without_pytorch(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "torch", None)
    cases = benchmark.cases(untrained(), networks.scene(), [1])
    assert [case.name for case in cases] == ["pyramid", "detector", "poses of 1"]
    assert {whose for case in cases for whose in case.rivals} == {"ours"}
    assert "PyTorch, channels_last: left out (" in capsys.readouterr().out


def test_the_whole_is_the_sum_of_the_stages():
    stages = {
        "pyramid": {"ours": [1.0, 1.0], "PyTorch": [4.0, 4.0]},
        "detector": {"ours": [1.0, 2.0], "PyTorch": [4.0, 8.0]},
        "poses of 3": {"ours": [2.0, 3.0], "PyTorch": [8.0, 12.0]},
    }
    whole = benchmark.whole(stages, 3)
    assert list(whole) == ["ours", "PyTorch"]
    np.testing.assert_array_equal(list(whole.values()), [[4.0, 6.0], [16.0, 24.0]])


@pytest.mark.slow
def test_the_benchmark(tmp_path):
    pytest.importorskip("torch")
    detector, pose = networks.save_both(tmp_path)
    weights = ["--detector", str(detector), "--pose", str(pose)]
    given = ["--height=60", "--width=80", "--people", "0", "2", "--rounds=1"]
    benchmark.main([*weights, *given, "--out", str(tmp_path)])
    rows = json.loads((tmp_path / "pipeline.json").read_text())["rows"]
    network = [row for row in rows if row["case"].startswith("pose network")]
    assert {row["case"] for row in network} == {"pose network, 1 crops", "pose network, 4 crops"}
    # Rivals, and pyramid, detector, poses and the whole twice each.
    assert len(rows) - len(network) == 3 * 6
    joints = [row["difference"] for row in rows if row["case"] == "poses of 2"]
    assert joints == [0, 0, 0]
