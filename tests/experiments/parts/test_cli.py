"""A pose network's head on the command line: choosing one, its flags, flags of before."""

import typing

import pytest

from experiments import train
from experiments.parts import cli
from g_rmi.pose.heads import Head
from g_rmi.pose.heads.disks import Disks


def parse(*argv):
    return cli.parse(train.Arguments(), argv, prog="train").experiment.model


def test_a_heads_fields_are_flags():
    model = parse("--radius", "5", "--head.decoding", "argmax", "--crop-width=129")
    assert (model.head.radius, model.head.decoding, model.crop_width) == (5.0, "argmax", 129)
    assert model.head.loss_stride == 4  # the config's own


@pytest.mark.parametrize("head", typing.get_args(Head) or (Head,), ids=lambda head: head.kind)
@pytest.mark.parametrize("join", [" ", "="])
def test_every_head_can_be_chosen(head, join):
    model = parse(*f"--width 16 --head{join}{head.kind} --loss-stride 8".split())
    assert type(model.head) is head
    assert (model.width, model.head.loss_stride) == (16, 8)


def test_the_configs_own_head_stays_as_it_is():
    assert parse("--head", "disks").head == parse().head == Disks(radius=6.0, loss_stride=4)


def test_a_head_that_there_is_not_is_named():
    with pytest.raises(ValueError, match=r"head.kind = 'disk'.*disks"):
        parse("--head", "disk")
    with pytest.raises(ValueError, match=r"--head disks: for pose networks"):
        parse("--config", "detector_synthetic", "--head", "disks")


def test_flags_of_before_go_on_for_one_release(capsys):
    assert parse("--top-down", "16").fpn_channels == 16
    assert parse("--model.top-down=32").fpn_channels == 32
    assert capsys.readouterr().err.splitlines() == [
        "note: --top-down is called --fpn-channels now",
        "note: --top-down is called --fpn-channels now",
    ]
