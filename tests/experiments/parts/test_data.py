"""What would end an evaluation is said before the training."""

import dataclasses
import re

import numpy as np
import pytest

from data_pipeline import synthetic
from data_pipeline.readers import read
from data_pipeline.schema import DataError
from experiments.parts.data import check_pictures, check_validation, check_visibility
from g_rmi.skeleton import COCO


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    directory = tmp_path_factory.mktemp("data") / "scenes"
    synthetic.make(directory, train_images=1, val_images=3, size=(96, 128), workers=1)
    return read(directory, "val")


def nobody(dataset):
    return dataclasses.replace(dataset, people=dataset.people.take(np.array([], int)))


def unlabelled(dataset):
    return flagged(dataset, np.zeros_like(dataset.people.visibility))


def flagged(dataset, v):
    return dataclasses.replace(dataset, people=dataclasses.replace(dataset.people, visibility=v))


def no_images(dataset):
    none = {name: column[:0] for name, column in vars(dataset.images).items()}
    return dataclasses.replace(nobody(dataset), images=type(dataset.images)(**none))


def without_pictures(dataset):
    source = dataclasses.replace(dataset.source, folder=dataset.source.folder / "nowhere")
    return dataclasses.replace(dataset, source=source)


def without_area(dataset):
    people = dataset.people
    area = np.where(np.arange(len(people)) == np.flatnonzero(people.has_joints)[-1], 0, people.area)
    return dataclasses.replace(dataset, people=dataclasses.replace(people, area=area))


def inside_out(dataset):
    box = dataset.people.box.copy()
    box[:1] = box[:1, [2, 3, 0, 1]]
    return dataclasses.replace(dataset, people=dataclasses.replace(dataset.people, box=box))


SIGMAS = dataclasses.replace(COCO, sigmas=(0.1,) * 17)
NAMES = dataclasses.replace(COCO, names=tuple(f"joint {k}" for k in range(17)))


@pytest.mark.parametrize(
    ("change", "skeleton", "message"),
    [
        (no_images, COCO, "val: no picture"),
        (nobody, COCO, "nobody's joints are labelled"),
        (unlabelled, COCO, "nobody's joints are labelled"),
        (nobody, None, "nobody is labelled"),
        (lambda d: dataclasses.replace(d, skeleton=SIGMAS), COCO, "sigmas are .*those trained on"),
        (lambda d: dataclasses.replace(d, skeleton=NAMES), COCO, "names are .*joint 3"),
        (without_area, COCO, "annotation .* has no area, as 1 in all"),
        (inside_out, None, "annotation .* has a box of negative size"),
        (without_pictures, None, "3 of 3 pictures .* such as .*nowhere"),
    ],
)
def test_a_validation_split_that_is_of_no_use_is_refused(dataset, change, skeleton, message):
    with pytest.raises(DataError, match=message):
        check_validation(change(dataset), skeleton)


def test_sets_that_hide_nothing_do_not_teach_visibility(dataset, capsys):
    flags = np.full_like(dataset.people.visibility, 2)
    silent = flagged(dataset, flags)
    marking = flagged(dataset, np.where(np.arange(flags.size).reshape(flags.shape), flags, 1))
    check_visibility([marking])
    assert capsys.readouterr().out == ""
    check_visibility([marking, silent])
    assert re.fullmatch(r"note: .*scenes.*: no joint is marked .*taught\n", capsys.readouterr().out)
    with pytest.raises(DataError, match=r"--visibility-weight: .*scenes.*; .*scenes.*v = 1"):
        check_visibility([silent, silent])


def test_sound_ones_are_not(dataset):
    check_validation(dataset, COCO)
    check_validation(unlabelled(dataset), None)  # a detector's
    check_validation(dataclasses.replace(dataset, skeleton=NAMES), None)
    check_validation(without_area(dataset), None)
    check_pictures(without_pictures(dataset), 1.0)
