"""A pose network's head on the command line: choosing one, its flags, flags of before."""

import json
import re
import subprocess
import sys
import typing
from pathlib import Path

import numpy as np
import pytest

from experiments import train
from experiments.parts import cli
from g_rmi.config import require
from g_rmi.detector import DetectorConfig
from g_rmi.pose.heads import Head
from g_rmi.pose.heads.disks import Disks
from g_rmi.pose.heads.gaussian import GaussianHeatmaps

ROOT = Path(__file__).resolve().parents[3]


def parse(*argv):
    return cli.parse(train.Arguments(), argv, prog="train").experiment.model


def test_a_heads_fields_are_flags():
    model = parse("--radius", "5", "--head.decoding", "argmax", "--crop-width=129")
    assert (model.head.radius, model.head.decoding, model.crop_width) == (5.0, "argmax", 129)
    assert model.head.loss_stride == 4  # the config's own


@pytest.mark.parametrize("head", typing.get_args(Head) or (Head,), ids=lambda head: head.kind)
@pytest.mark.parametrize("join", [" ", "="])
def test_every_head_can_be_chosen(head, join):
    model = parse(*f"--width 16 --head{join}{head.kind}".split())
    assert type(model.head) is head
    assert model.backbone.width == 16


def test_the_configs_own_head_stays_as_it_is():
    assert parse("--head", "disks").head == parse().head == Disks(radius=6.0, loss_stride=4)


def test_a_head_that_there_is_not_is_named():
    with pytest.raises(ValueError, match=r"head.kind = 'disk'.*disks"):
        parse("--head", "disk")
    with pytest.raises(ValueError, match=r"--head disks: for pose networks"):
        parse("--config", "detector_synthetic", "--head", "disks")


@pytest.mark.parametrize(
    ("config", "option", "union"),
    [
        ("pose_synthetic", "--head", Head),
        ("detector_synthetic", "--detector-kind", DetectorConfig),
    ],
)
def test_the_help_lists_what_can_be_chosen(config, option, union, capsys):
    with pytest.raises(SystemExit):
        parse("--config", config, "--help")
    text = capsys.readouterr().out
    kinds = [kind.kind for kind in typing.get_args(union) or (union,)]
    assert f"{option} {{{','.join(kinds)}}}" in text
    assert "--kind" not in text
    chosen = parse("--config", config, option, kinds[-1])
    assert kinds[-1] in (getattr(chosen, "kind", None), getattr(chosen, "head", chosen).kind)


@pytest.mark.parametrize("kind", typing.get_args(DetectorConfig), ids=lambda kind: kind.kind)
def test_every_detector_can_be_chosen(kind):
    words = f"--config detector_small --detector-kind {kind.kind} --width 16 --canvas 64 80"
    model = parse(*words.split())
    assert type(model) is kind
    assert (model.backbone.width, model.canvas) == (16, (64, 80))


def test_the_fields_own_name_goes_on(capsys):
    assert parse("--kind", "gaussian", "--sigma", "3").head == GaussianHeatmaps(sigma=3.0)
    assert parse("--model.head.kind=gaussian").head == GaussianHeatmaps()
    detector = parse("--config", "detector_synthetic")
    assert parse("--config", "detector_synthetic", "--kind", "faster_rcnn") == detector
    told = capsys.readouterr().err.splitlines()
    assert told[0] == told[1] == "note: --kind is called --head now"
    assert told[2] == "note: --kind is called --detector-kind now"
    with pytest.raises(
        ValueError, match=r"--detector-kind faster_rcnn: for detectors; .* pose net"
    ):
        parse("--detector-kind", "faster_rcnn")


def test_flags_of_before_go_on_for_one_release(capsys):
    assert parse("--top-down", "16").fpn_channels == 16
    assert parse("--model.top-down=32").fpn_channels == 32
    assert capsys.readouterr().err.splitlines() == [
        "note: --top-down is called --fpn-channels now",
        "note: --top-down is called --fpn-channels now",
    ]


@pytest.mark.parametrize(
    ("program", "expected"),
    [
        (lambda argv: require(False, "steps", 0, "1 or more"), True),
        (lambda argv: Path("/nowhere/x").read_text(), True),
        (lambda argv: {}["x"], False),
        (lambda argv: json.loads("{"), False),
        (lambda argv: np.zeros(2) + np.zeros(3), False),
    ],
)
def test_only_what_nobody_expected_is_worth_a_traceback(program, expected, monkeypatch, capsys):
    monkeypatch.delenv("G_RMI_TRACEBACK", raising=False)
    with pytest.raises(SystemExit) as ended:
        cli.run(program)
    assert ended.value.code == 2
    first, *more = capsys.readouterr().err.splitlines()
    assert first.startswith("error: ")
    assert more == ([] if expected else ["(G_RMI_TRACEBACK=1 shows where)"])


def test_a_reader_that_has_seen_enough_is_no_error():
    code = "import sys; sys.argv = ['g-rmi', 'sweep', '--list']; "
    code += "from experiments.main import console; sys.stdin.read(); console()"
    command = [sys.executable, "-c", code]
    pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    with subprocess.Popen(command, cwd=ROOT, **pipes) as process:
        process.stdout.close()
        process.stdin.close()
        assert process.stderr.read() == b""
    assert process.returncode == 0


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (RuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 9 bytes.\nmore"), "--remat"),
        (RuntimeError("INTERNAL: Error: Out of memory while trying"), "out of memory: .*--batch-s"),
        (MemoryError("Unable to allocate 8 GiB"), "out of memory: Unable to allocate"),
        (RuntimeError("Unable to initialize backend 'tpu': no"), "no such device here: .*'tpu'"),
        (RuntimeError("Backend 'x' is not in the list of known backends"), "no such device"),
        (OSError("full"), "error: full"),
        (RuntimeError("a bug"), None),
    ],
)
def test_a_machines_trouble_is_one_line(error, message, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["train"])

    def main(argv):
        raise error

    with pytest.raises(SystemExit if message else RuntimeError) as exit:
        cli.run(main)
    if message:
        assert exit.value.code == 2
        assert re.search(message, capsys.readouterr().err.splitlines()[0])


@pytest.mark.parametrize("word", ["gs://b/run", "--workdir=gs://b/run", "s3://b", "http://x/a.jpg"])
def test_buckets_are_refused(word):
    with pytest.raises(ValueError, match=r"://.*must be a path of this machine"):
        cli.renamed([word])
