r"""Joints that another network found as labels, for sets that lack them.

    python -m experiments.preparation.teacher_joints annotations.json --found keypoints.json \
        --doubtful doubtful.json --images IMAGES --out DIR

The default thresholds are MoveNet Thunder's: on 337 people with true labels, body joints of a score
of .4 to .5 have a mean OKS of .78, face joints of .5 to .6 one of .82. What is below teaches
nothing (train with `--unlabelled ignore`): hidden joints get scores, too, so absence is not known.
"""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tyro

from data_pipeline.readers.reader import load_json
from experiments.parts import cli
from g_rmi.skeleton import COCO

FACE = 5  # COCO's first joints.
_MARGIN = 0.1  # A joint may lie outside its person's box by this share of the box's sides.


@dataclasses.dataclass(frozen=True)
class Arguments:
    """Adds the joints that a network found to people who lack them; writes a data directory.

    Labels that are there stay as they are.
    """

    annotations: tyro.conf.Positional[Path]  # COCO annotations of the set.
    found: Path  # A list of {"annotation_id", "keypoints": [x, y, score] * 17}.
    images: Path  # The folder of its images, to which the directory gets a link.
    out: Path  # The new data directory.
    # A list of annotation ids: people whose labels and joints found do not agree.
    doubtful: Path | None = None
    leave_out: bool = False  # Leave doubtful people out; else they keep what labels they have.
    face_score: float = 0.5  # Least score of a face joint.
    body_score: float = 0.4  # Least score of another joint.
    mean_score: float = 0.3  # People whose joints have a lower mean score get none.


def add_joints(
    person: Mapping[str, Any], found: Sequence[float], arguments: Arguments
) -> dict[str, Any]:
    """A person with the joints that are sure and inside their box, where they have none."""
    labels = person.get("keypoints") or [0] * 3 * len(COCO)
    joints, theirs = (np.reshape(x, (len(COCO), 3)).astype(float) for x in (labels, found))
    corner, sides = np.split(np.array(person["bbox"], float), 2)
    low, high = corner - _MARGIN * sides, corner + (1 + _MARGIN) * sides
    inside = ((theirs[:, :2] > low) & (theirs[:, :2] < high)).all(axis=1)
    face = np.arange(len(COCO)) < FACE
    least = np.where(face, arguments.face_score, arguments.body_score)
    new = inside & (theirs[:, 2] >= least) & (joints[:, 2] == 0)
    if theirs[:, 2].mean() >= arguments.mean_score:
        joints[new] = np.c_[theirs[new, :2], np.full(new.sum(), 2)]
    return {
        **person,
        "keypoints": joints.ravel().tolist(),
        "num_keypoints": int((joints[:, 2] > 0).sum()),
    }


def labelled(content: Mapping[str, Any], arguments: Arguments) -> dict[str, Any]:
    """The annotations with the joints that were found."""
    found = {row["annotation_id"]: row["keypoints"] for row in load_json(arguments.found)}
    doubtful = set(load_json(arguments.doubtful)) if arguments.doubtful else set()
    people = []
    for person in content["annotations"]:
        if person["id"] in doubtful and arguments.leave_out:
            continue
        sure = person["id"] in found and person["id"] not in doubtful
        joints = found[person["id"]] if sure else [0.0] * 3 * len(COCO)
        people.append({**add_joints(person, joints, arguments), "category_id": 1})
    category = {"id": 1, "name": "person", "keypoints": list(COCO.names)}
    return {**content, "annotations": people, "categories": [category]}


def main(argv: Sequence[str]) -> None:
    """The program."""
    arguments = cli.arguments(Arguments, argv, name="preparation.teacher_joints")
    if arguments.out.exists():
        raise ValueError(f"--out {arguments.out}: exists already; name a new directory")
    content = labelled(load_json(arguments.annotations), arguments)
    (arguments.out / "annotations").mkdir(parents=True)
    (arguments.out / "images").symlink_to(arguments.images.resolve(), target_is_directory=True)
    path = arguments.out / "annotations" / "people_train.json"
    path.write_text(json.dumps(content))
    people = content["annotations"]
    joints = sum(person["num_keypoints"] for person in people)
    print(f"{path}: {len(people)} people, {joints} joints")


if __name__ == "__main__":
    cli.run(main)
