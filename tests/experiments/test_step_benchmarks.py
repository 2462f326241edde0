import re

import jax
import pytest

from experiments.benchmarks import memory, train_step

TINY = ["--config=pose_synthetic", "--width=4", "--top-down=8", "--batch-size=2"]
TINY += ["--crop-height=33", "--crop-width=33"]


@pytest.mark.slow
def test_memory_of_a_step(capsys):
    memory.main(TINY)
    numbers = dict(re.findall(r"^(\S.*?) {2,}([\d.]+)", capsys.readouterr().out, re.M))
    names = ["device", "parameters", "FLOPs", "state and batch", "temporaries", "peak"]
    assert list(numbers) == names
    # The kernels of width 4 are a 64th of width 32's 3.4 million weights; norms and heads add some.
    assert 0.05 <= float(numbers["parameters"]) <= 0.1


@pytest.mark.slow
def test_memory_of_a_step_of_the_detector(capsys):
    memory.main(["--config=detector_synthetic", "--width=4", "--batch-size=1"])
    assert "peak" in capsys.readouterr().out


def test_only_pose_networks_have_a_twin():
    with pytest.raises(ValueError, match="detector_small: only pose networks"):
        train_step.main(["--config=detector_small"])


@pytest.mark.parametrize(("topology", "chips"), [("v5e:1x1", 1), ("v5e:2x2", 4)])
def test_tpu_topologies(topology, chips):
    pytest.importorskip("libtpu", reason="compiles for TPUs")
    assert len(memory.devices("tpu", topology)) == chips


def test_wrong_choices(monkeypatch):
    with pytest.raises(ValueError, match=r"topology = 'v5e': must be like v5e:1x1"):
        memory.devices("tpu", "v5e")
    monkeypatch.setattr(memory.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match="pip install libtpu"):
        memory.devices("tpu", "v5e:1x1")


@pytest.mark.slow
def test_against_pytorch(capsys):
    pytest.importorskip("torch")
    train_step.main([*TINY, "--rounds=2"])
    out = capsys.readouterr().out
    assert re.search(r"^ours +[\d.]+ ms", out, re.M)
    assert re.search(r"^our whole training step +[\d.]+ crops/s", out, re.M)
    jax.clear_caches()
