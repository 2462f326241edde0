"""Draws a share of the scenes in its own process: a JSON job in, a JSON line per picture out."""

import json
import sys
from pathlib import Path

import cv2

from data_pipeline.synthetic.dataset import Recipe, draw


def main() -> None:
    """Reads `{"recipe": ..., "items": [[split, index], ...]}`, the directory is the argument."""
    cv2.setNumThreads(1)
    job = json.load(sys.stdin)
    size = tuple(job["recipe"].pop("size"))
    recipe = Recipe(**job["recipe"], size=size)
    items = [(split, index) for split, index in job["items"]]
    for record in draw(Path(sys.argv[1]), recipe, items):
        print(json.dumps(record, separators=(",", ":")), flush=True)


if __name__ == "__main__":
    main()
