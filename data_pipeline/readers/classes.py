"""Several classes with joints of their own as one data set."""

from collections.abc import Mapping, Sequence

import numpy as np

from data_pipeline.schema import DataError, Dataset, People
from g_rmi.skeleton import Skeleton


def join_classes(sets: Mapping[str, Dataset], ids: Sequence[int]) -> Dataset:
    """One data set of the same pictures, each given one being a class; `ids` are its categories'.

    Everybody has the joints of all classes, of which only the own can be labelled. A DataError if
    two annotations have one id.
    """
    first, *_ = sets.values()
    skeleton = Skeleton.join({name: dataset.skeleton for name, dataset in sets.items()}, ids)
    parts = []
    for number, (name, dataset) in enumerate(sets.items()):
        people, block = dataset.people, skeleton.blocks[name]
        keypoints = np.zeros((len(people), len(skeleton), 2), np.float32)
        visibility = np.zeros((len(people), len(skeleton)), np.uint8)
        keypoints[:, block], visibility[:, block] = people.keypoints, people.visibility
        classes = np.full(len(people), number, np.int32)
        columns = {"keypoints": keypoints, "visibility": visibility, "classes": classes}
        parts.append({**vars(people), **columns})
    names = People.__dataclass_fields__
    people = People(**{name: np.concatenate([part[name] for part in parts]) for name in names})
    people = people.take(np.argsort(people.image, kind="stable"))
    numbers, count = np.unique(people.id, return_counts=True)
    if (count > 1).any():
        twice = numbers[count > 1][0]
        raise DataError(f"{first.directory}: annotation id {twice} appears more than once")
    outlines = {key: outline for each in sets.values() for key, outline in each.outlines.items()}
    return Dataset(
        first.directory, first.split, skeleton, first.images, people, first.source, outlines
    )
