"""A small COCO ground truth with every kind of label, made by hand."""

import math

import numpy as np

# A standing person in the unit square.
_POSE = [(0.50, 0.08), (0.54, 0.06), (0.46, 0.06), (0.58, 0.08), (0.42, 0.08), (0.65, 0.22)]
_POSE += [(0.35, 0.22), (0.75, 0.38), (0.25, 0.38), (0.80, 0.52), (0.20, 0.52), (0.60, 0.55)]
_POSE += [(0.40, 0.55), (0.62, 0.76), (0.38, 0.76), (0.62, 0.97), (0.38, 0.97)]
POSE = np.array(_POSE)


def person(ident, image_id, box, *, hidden=(), occluded=(), crowd=0):
    """An annotation with its box `xywh`; `hidden` joints are v = 0, `occluded` ones v = 1."""
    x, y, width, height = box
    keypoints = np.concatenate([POSE * (width, height) + (x, y), np.full((17, 1), 2)], axis=1)
    keypoints[list(occluded), 2] = 1
    keypoints[list(hidden)] = 0
    return {
        "id": ident,
        "image_id": image_id,
        "category_id": 1,
        "bbox": list(box),
        "area": 0.6 * width * height,
        "iscrowd": crowd,
        "keypoints": keypoints.round(2).ravel().tolist(),
        "num_keypoints": 17 - len(hidden),
    }


def annotations():
    """Four images: two people; a person before a crowd; somebody without joints; nobody."""
    return {
        "images": [{"id": i} for i in (7, 8, 9, 10)],
        "annotations": [
            person(0, 7, (20, 30, 60, 120), occluded=(9, 10)),
            person(12, 7, (200, 40, 150, 400), hidden=(0, 1, 2, 15, 16)),
            person(5, 8, (50, 60, 90, 220), hidden=range(5)),
            person(6, 8, (250, 20, 300, 90), hidden=range(17), crowd=1),
            person(3, 9, (10, 10, 80, 80), hidden=range(17)),
            person(4, 9, (120, 15, 40, 70), occluded=range(17)),
        ],
        "categories": [{"id": 1, "name": "person"}],
    }


def labelled(data):
    """People with joints who are not crowds, with their keypoints `[N, 17, 3]`."""
    people = [a for a in data["annotations"] if a["num_keypoints"] and not a["iscrowd"]]
    return people, np.array([a["keypoints"] for a in people], float).reshape(-1, 17, 3)


def jitter(points, pixels):
    """The points moved by fixed amounts of about that many pixels; no random stream."""
    wobble = [math.sin(3.7 * i) + 0.6 * math.cos(1.3 * i) for i in range(points.size)]
    return points + pixels * np.reshape(wobble, points.shape)
