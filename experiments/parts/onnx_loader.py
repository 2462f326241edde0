"""Finds the people of photographs. Needs the .onnx file beside it, numpy and onnxruntime.

    from NAME import find_people  # NAME being this file's

    people = find_people(image)  # uint8 RGB [height, width, 3], or the path of a photograph
    people["keypoints"]  # [N, K, 2], x and y in the picture's pixels, best person first
    people["keypoint_scores"], people["scores"], people["boxes"]  # [N, K], [N], [N, 4]
    people["visibility"]  # [N, K], of networks that say which joints one sees

`python NAME.py PHOTOGRAPH ...` draws them. Paths and drawings need OpenCV. `KEYPOINTS` has the
names; `RUN` can be made anew with other providers, see onnxruntime's InferenceSession.
"""

import json
import sys
from pathlib import Path

import numpy as np
import onnxruntime

RUN = onnxruntime.InferenceSession(Path(__file__).with_suffix(".onnx"))
_ABOUT = RUN.get_modelmeta().custom_metadata_map
KEYPOINTS, LIMBS, DRAWN_FROM = (
    json.loads(_ABOUT[name]) for name in ("keypoints", "limbs", "drawn_from")
)


def find_people(image):
    """People of a picture, as a dict of arrays."""
    if isinstance(image, str | Path):
        import cv2

        pixels = cv2.imread(str(image))  # turned upright by EXIF
        if pixels is None:
            raise ValueError(f"{image}: no picture that OpenCV can read")
        image = np.ascontiguousarray(pixels[..., ::-1])
    shape, kind = getattr(image, "shape", ()), getattr(image, "dtype", type(image).__name__)
    if kind != np.uint8 or len(shape) != 3 or shape[2] != 3 or 0 in shape:
        raise ValueError(f"a picture must be uint8 RGB [H, W, 3], got {kind} {shape}")
    *columns, valid = RUN.run(None, {"picture": image})
    return {x.name: column[valid] for x, column in zip(RUN.get_outputs(), columns)}


def draw_people(image, people):
    """Draws limbs into a picture of OpenCV's."""
    import cv2

    joints = people["keypoints"].round().astype(int).tolist()
    for points, scores in zip(joints, people["keypoint_scores"]):
        for a, b in LIMBS:
            if min(scores[a], scores[b]) >= DRAWN_FROM:
                cv2.line(image, points[a], points[b], (0, 255, 0), 2)


if __name__ == "__main__":
    import cv2

    for path in sys.argv[1:]:
        people, image = find_people(path), cv2.imread(path)
        assert image is not None  # `find_people` has read it
        draw_people(image, people)
        cv2.imwrite(f"{path}.people.jpg", image)
        print(f"{path}: {len(people['scores'])} people, drawn into {path}.people.jpg")
