"""Made pictures of two classes with joints of their own: kites of four, triangles of three."""

import json

import cv2
import numpy as np

KITE = {
    "id": 7,
    "name": "kite",
    "keypoints": ["top", "left_wing", "right_wing", "tail"],
    "skeleton": [[1, 2], [1, 3], [2, 4], [3, 4]],
    "sigmas": [0.1, 0.1, 0.1, 0.1],
}
TRIANGLE = {
    "id": 3,
    "name": "triangle",
    "keypoints": ["top", "left_foot", "right_foot"],
    "skeleton": [[1, 2], [1, 3], [2, 3]],
    "sigmas": [0.08, 0.08, 0.08],
}
BALL = {"id": 1, "name": "ball"}
SHAPES = {
    "kite": ([(0.5, 0), (0, 0.35), (1, 0.35), (0.5, 1)], (230, 60, 40)),
    "triangle": ([(0.5, 0), (0, 1), (1, 1)], (40, 90, 230)),
}


def write_set(directory, *, count=3, seed=0, categories=(KITE, TRIANGLE, BALL), balls=True):
    """A data directory in COCO's layout, both splits alike: in each picture one of either class."""
    random = np.random.default_rng(seed)
    (directory / "annotations").mkdir(parents=True)
    images, annotations = [], []
    for i in range(1, count + 1):
        picture = random.integers(90, 120, (72, 112, 3)).astype(np.uint8)
        images.append({"id": i, "file_name": f"{i}.png", "width": 112, "height": 72})
        for place, category in enumerate((KITE, TRIANGLE)):
            shape, colour = SHAPES[category["name"]]
            w, h = random.integers(28, 40, 2).tolist()
            x = random.integers(2, 14) + 56 * ((place + i) % 2)
            y = random.integers(2, 30)
            points = np.array(shape) * (w, h) + (x, y)
            outline = points[[0, 1, 3, 2]] if len(points) == 4 else points
            cv2.fillPoly(picture, [np.rint(outline).astype(np.int32)], colour)
            joints = np.column_stack([points, np.full(len(points), 2)])
            annotations.append(
                {"id": len(annotations) + 1, "image_id": i, "category_id": category["id"]}
                | {"bbox": [float(x), float(y), w, h], "area": w * h / 2, "iscrowd": 0}
                | {"keypoints": joints.ravel().tolist(), "num_keypoints": len(points)}
            )
        ball = {"image_id": i, "category_id": 1, "bbox": [1, 1, 5, 5], "area": 20, "iscrowd": 0}
        annotations += [{"id": len(annotations) + 1, **ball}] * balls
        for split in ("train", "val"):
            (directory / f"{split}2017").mkdir(exist_ok=True)
            cv2.imwrite(str(directory / f"{split}2017" / f"{i}.png"), picture[..., ::-1])
    content = {"images": images, "annotations": annotations, "categories": list(categories)}
    for split in ("train", "val"):
        file = directory / "annotations" / f"person_keypoints_{split}2017.json"
        file.write_text(json.dumps(content))
    return directory
