"""Metrics files, over restarts."""

import json
import sys
import types

import numpy as np
from tensorboardX.proto.event_pb2 import Event

from g_rmi.training.tracking import wandb_run
from g_rmi.training.writer import Writer, read_metrics


def lines(workdir):
    return [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]


def board_values(workdir):
    """(step, tag, value) of all TensorBoard files; records are length, crc, data, crc."""
    values = []
    for path in sorted((workdir / "tensorboard").iterdir()):
        data = path.read_bytes()
        while data:
            size = int.from_bytes(data[:8], "little")
            event = Event.FromString(data[12 : 12 + size])
            values += [(event.step, v.tag, v.simple_value) for v in event.summary.value]
            data = data[16 + size :]
    return values


def test_numbers_arrive(tmp_path):
    writer = Writer(tmp_path, steps=10, step=0)
    writer.scalars(5, {"train/loss": 0.5, "eval/AP": float("nan")})
    writer.images(5, {"eval/people": np.zeros((4, 6, 3), np.uint8)})
    writer.close()
    (line,) = lines(tmp_path)
    assert line.pop("time") > 0
    assert line == {"step": 5, "train/loss": 0.5, "eval/AP": None}
    tags = board_values(tmp_path)
    assert (5, "train/loss", 0.5) in tags
    assert [tag for _, tag, _ in tags] == ["train/loss", "eval/people"]


def test_lines_past_the_restored_step_are_dropped(tmp_path):
    writer = Writer(tmp_path, steps=10, step=0)
    assert not writer.evaluated
    for step in (2, 4, 6):
        writer.scalars(step, {"train/loss": float(step)})
    writer.scalars(4, {"eval/AP": 0.1})
    writer.close()
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 8, "tra')  # a crash
    found = read_metrics(tmp_path / "metrics.jsonl")
    assert [(line["step"], line.get("eval/AP")) for line in found] == [
        (2, None),
        (4, None),
        (6, None),
        (4, 0.1),
    ]
    assert read_metrics(tmp_path / "none.jsonl") == []
    writer = Writer(tmp_path, steps=10, step=4)
    assert writer.evaluated
    writer.scalars(6, {"train/loss": 60.0})
    writer.close()
    assert [(line["step"], line.get("train/loss")) for line in lines(tmp_path)] == [
        (2, 2.0),
        (4, 4.0),
        (4, None),
        (6, 60.0),
    ]
    writer = Writer(tmp_path, steps=10, step=2)
    assert not writer.evaluated
    writer.close()


def test_plain_lines_without_a_terminal(tmp_path, capsys):
    writer = Writer(tmp_path, steps=2000, step=0)
    writer.progress(1, 1.0, float("nan"), float("nan"), line=True)
    writer.progress(2, 1.0, 10.0, 5.0, line=False)
    writer.progress(100, 0.12345, 34.56, 3725.0, line=True)
    writer.say("[hello]")
    writer.close()
    assert capsys.readouterr().out.splitlines() == [
        "step 1/2000  loss 1",
        "step 100/2000  loss 0.1235  34.6 examples/s  1:02:05 left",
        "[hello]",
    ]


def test_bar_on_a_terminal(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "120")
    writer = Writer(tmp_path, steps=20, step=5)
    writer.progress(10, 0.5, 34.56, 61.0, line=False)
    writer.say("[hello]")
    writer.close()
    out = capsys.readouterr().out
    assert "[hello]\n" in out
    assert "10/20" in out
    assert "loss 0.5  34.6 examples/s  0:01:01 left" in out


class FakeWandb(types.ModuleType):
    """What is used of Weights & Biases."""

    def __init__(self):
        super().__init__("wandb")
        self.begun, self.logged, self.finished = [], [], 0

    def init(self, **options):
        self.begun.append(options)
        return self

    def define_metric(self, name, step_metric):
        assert (name, step_metric) == ("*", "step")

    def log(self, data):
        self.logged.append(data)

    def finish(self):
        self.finished += 1


def test_weights_and_biases_gets_the_numbers_and_the_same_run_goes_on(tmp_path, monkeypatch):
    fake = FakeWandb()
    monkeypatch.setitem(sys.modules, "wandb", fake)
    workdir = tmp_path / "fast"
    start = wandb_run("poses", workdir, {"train": {"steps": 4}})
    assert not workdir.exists()
    workdir.mkdir()
    for step in (0, 2):
        writer = Writer(workdir, steps=4, step=step, track=start)
        writer.scalars(step + 2, {"train/loss": 0.5, "eval/AP": float("nan")})
        writer.close()
    assert fake.logged == [{"step": 2, "train/loss": 0.5}, {"step": 4, "train/loss": 0.5}]
    assert fake.finished == 2
    first, second = fake.begun
    assert first == second
    assert first["id"] == (workdir / "wandb_id").read_text() != ""
    assert (first["project"], first["name"], first["resume"]) == ("poses", "fast", "allow")
    assert first["config"] == {"train": {"steps": 4}}
