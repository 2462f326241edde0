"""A small data directory in COCO's layout, made on the fly."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from g_rmi.skeleton import COCO

K = len(COCO)


def picture(rng, width, height):
    """Smooth coloured noise: survives JPEG, and no two regions are alike."""
    noise = rng.integers(0, 256, (height // 8 + 2, width // 8 + 2, 3), np.uint8)
    return cv2.resize(noise, (width, height), interpolation=cv2.INTER_CUBIC)


def person(id, image_id, rng, width, height, **changes):
    """A labelled person somewhere in the picture."""
    box = np.array([rng.uniform(0, width / 3), rng.uniform(0, height / 3), width / 3, height / 2])
    points = np.round(box[:2] + rng.uniform(0, 1, (K, 2)) * box[2:], 1)
    v = rng.integers(1, 3, (K, 1))
    return {
        "id": id,
        "image_id": image_id,
        "category_id": 1,
        "bbox": np.round(box, 2).tolist(),
        "area": round(float(box[2] * box[3] / 2), 4),
        "iscrowd": 0,
        "keypoints": np.concatenate([points, v], axis=1).reshape(-1).tolist(),
        "num_keypoints": K,
    } | changes


def content_of(images, annotations):
    return {
        "images": images,
        "annotations": annotations,
        "categories": [{"id": 1, "name": "person", "keypoints": list(COCO.names)}],
    }


@pytest.fixture
def make_coco(tmp_path):
    """Factory of data directories: `make_coco(name, images=..., people=..., split=...)`.

    Picture i has id 10 i + 2**40 and i % (people + 1) people; people have ids 100, 101, ...
    """

    def make(name="data", *, images=6, people=2, split="train", size=(96, 80), seed=0, first=100):
        rng = np.random.default_rng(seed)
        directory = tmp_path / name
        folder = directory / f"{split}2017"
        folder.mkdir(parents=True)
        (directory / "annotations").mkdir(exist_ok=True)
        rows, annotations = [], []
        for i in range(images):
            width, height = size[0] + 2 * i, size[1]
            file_name = f"{i:06d}.jpg"
            image = picture(rng, width, height)
            cv2.imwrite(str(folder / file_name), image, [cv2.IMWRITE_JPEG_QUALITY, 95])
            image_id = 2**40 + 10 * i
            rows.append({"id": image_id, "file_name": file_name, "width": width, "height": height})
            for _ in range(i % (people + 1)):
                id = first + len(annotations)
                annotations.append(person(id, image_id, rng, width, height))
        path = directory / "annotations" / f"person_keypoints_{split}2017.json"
        path.write_text(json.dumps(content_of(rows, annotations)))
        return directory

    return make


@pytest.fixture
def voc(tmp_path):
    """Boxes only: 4 pictures of 0, 1, 2, 0 people; in the last two, hard ones are left out."""
    rng = np.random.default_rng(0)
    folder = tmp_path / "voc/images"
    folder.mkdir(parents=True)
    images, annotations = [], []
    for i, boxes in enumerate(([], [[5, 6, 30, 40]], [[1, 2, 20, 30], [40, 10, 25, 60]], [])):
        cv2.imwrite(str(folder / f"{i}.jpg"), picture(rng, 96, 80))
        images.append(
            {
                "id": i + 1,
                "file_name": f"{i}.jpg",
                "width": 96,
                "height": 80,
                "person_boxes_complete": True,
                "difficult_left_out": i >= 2,
            }
        )
        for box in boxes:
            row = {"id": len(annotations) + 1, "image_id": i + 1, "category_id": 1, "bbox": box}
            annotations.append(row | {"area": box[2] * box[3], "iscrowd": 0, "difficult": 0})
    categories = [{"id": 1, "name": "person", "supercategory": "person"}]
    content = {"images": images, "annotations": annotations, "categories": categories}
    (tmp_path / "voc/annotations.json").write_text(json.dumps(content))
    return tmp_path / "voc"


@pytest.fixture
def edit():
    """`edit(directory, change, split=...)` applies `change(content)` to the annotation file."""

    def apply(directory: Path, change, split="train"):
        path = directory / "annotations" / f"person_keypoints_{split}2017.json"
        content = json.loads(path.read_text())
        change(content)
        path.write_text(json.dumps(content))
        return path

    return apply
