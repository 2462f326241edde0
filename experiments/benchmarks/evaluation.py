"""Times COCO's evaluation: `python -m experiments.benchmarks.evaluation`.

Whole calls of `evaluate_keypoints` and `evaluate_boxes` on made people and detections as many as
COCO val2017 has pictures, by pycocotools and by faster-coco-eval where it is installed. They take
turns; medians and ratios, and the largest difference of the numbers.
"""

import functools
import importlib.util
from collections.abc import Callable
from typing import NamedTuple, get_args

import numpy as np
import tyro

from experiments.benchmarks.timing import machine, time_interleaved
from g_rmi.evaluation.results import PERSON, Result, box_results, keypoint_results, to_xywh
from g_rmi.evaluation.truth import Backend, Truth, evaluate_boxes, evaluate_keypoints
from g_rmi.skeleton import COCO


class Made(NamedTuple):
    """Annotations, and poses and boxes found there."""

    annotations: dict
    poses: list[Result]
    boxes: list[Result]


def made_results(images: int, *, seed: int = 0) -> Made:
    """People as in COCO, 2.2 a picture, each found one to three times; 5 false ones a picture."""
    rng = np.random.default_rng(seed)
    joints = len(COCO)

    def boxes(count: int) -> np.ndarray:
        tall = np.exp(rng.uniform(np.log(20), np.log(400), count))
        sides = np.stack([tall * rng.uniform(0.3, 0.6, count), tall], axis=1)
        corners = rng.uniform(0, 400, (count, 2))
        return np.concatenate([corners, corners + sides], axis=1)

    def within(boxes: np.ndarray) -> np.ndarray:
        places = rng.uniform(size=(len(boxes), joints, 2))
        return boxes[:, None, :2] + places * (boxes[:, None, 2:] - boxes[:, None, :2])

    image = np.sort(rng.integers(images, size=round(2.2 * images)))
    box = boxes(len(image))
    points, sides = within(box), box[:, 2:] - box[:, :2]
    labels = np.concatenate([points, 2.0 * (rng.uniform(size=(len(box), joints, 1)) < 0.7)], 2)
    people = [
        {
            "id": n,
            "image_id": int(image[n]),
            "category_id": PERSON,
            "bbox": to_xywh(box[n]).tolist(),
            "area": 0.6 * float(sides[n].prod()),
            "iscrowd": int(rng.uniform() < 0.03),
            "keypoints": labels[n].ravel().tolist(),
        }
        for n in range(len(box))
    ]
    found = np.repeat(np.arange(len(box)), rng.integers(1, 4, len(box)))
    error = 0.03 * sides[found, 1:] * rng.exponential(size=(len(found), 1))
    false = boxes(5 * images)
    keypoints = np.concatenate(
        [points[found] + error[..., None] * rng.normal(size=(len(found), joints, 2)), within(false)]
    )
    corners = np.concatenate([box[found] + error * rng.normal(size=(len(found), 4)), false])
    corners[:, 2:] = np.maximum(corners[:, 2:], corners[:, :2] + 1)
    ids = np.concatenate([image[found], rng.integers(images, size=len(false))])
    scores = np.concatenate([rng.uniform(size=len(found)), rng.uniform(size=len(false)) ** 2])
    ones = np.ones(keypoints.shape[:2])
    annotations = {"images": [{"id": i} for i in range(images)], "annotations": people}
    return Made(
        annotations,
        keypoint_results(ids, keypoints, ones, scores),
        box_results(ids, corners, scores),
    )


def backends() -> list[Backend]:
    """Those that are installed."""
    if importlib.util.find_spec("faster_coco_eval"):
        return list(get_args(Backend))
    print("faster: left out, faster_coco_eval is not installed")
    return ["pycocotools"]


def rivals(made: Made) -> dict[str, dict[str, Callable[[], dict[str, float]]]]:
    """Calls without arguments that give COCO's numbers, by what is evaluated and by whom."""
    tasks = {
        "keypoints": (evaluate_keypoints, made.poses),
        "boxes": (evaluate_boxes, made.boxes),
    }
    installed = backends()
    return {
        kind: {
            backend: functools.partial(_whole, evaluate, made.annotations, results, backend)
            for backend in installed
        }
        for kind, (evaluate, results) in tasks.items()
    }


def _whole(
    evaluate: Callable[[Truth, list[Result]], dict[str, float]],
    annotations: dict,
    results: list[Result],
    backend: Backend,
) -> dict[str, float]:
    return evaluate(Truth(annotations, backend=backend), results)


def difference(calls: dict[str, Callable[[], dict[str, float]]]) -> float:
    """The largest difference between pycocotools' numbers and anyone's."""
    expected, *others = (call() for call in calls.values())
    return max((abs(expected[k] - other[k]) for other in others for k in expected), default=0.0)


def main(*, images: int = 5_000, rounds: int = 3) -> None:
    """Times the evaluation and compares the numbers.

    Args:
      images: Pictures; COCO val2017 has 5,000.
      rounds: Turns per rival.
    """
    print(machine())
    made = made_results(images)
    people, poses = len(made.annotations["annotations"]), len(made.poses)
    print(f"{images} pictures, {people} people, {poses} detections")
    for kind, calls in rivals(made).items():
        print(f"\n{kind}: numbers differ by at most {difference(calls):.1e}")
        print(time_interleaved(calls, rounds=rounds, warmup=0).table("pycocotools"))


if __name__ == "__main__":
    tyro.cli(main)
