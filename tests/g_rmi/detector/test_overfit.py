"""Two pictures learnt by heart: everything from targets to box AP has to fit together.

`test_detectors.py` has the quick check, some steps down the gradient.
"""

import dataclasses

import jax
import numpy as np
import pytest
from jax import numpy as jnp

from g_rmi.config import OptimConfig
from g_rmi.evaluation.results import box_results
from g_rmi.evaluation.truth import Truth, evaluate_boxes
from g_rmi.geometry import to_xywh
from g_rmi.inference.dataset import detect_people
from g_rmi.skeleton import COCO, Skeleton
from g_rmi.training.optim import make_optimizer
from g_rmi.training.state import create_state, evaluation_variables
from g_rmi.training.step import train_step
from g_rmi.types import DetectionBatch
from tests.networks import DETECTORS, FACE

TWO_STAGE = {
    "canvas": (80, 112),
    "rpn_channels": 32,
    "rpn_dilation": 1,
    "rpn_samples": 32,
    "candidates": 60,
    "proposals": 16,
}
# Steps, and settings.
KINDS = {
    "faster_rcnn": (90, {**TWO_STAGE, "roi_size": 8, "box_samples": 16}),
    "rfcn": (120, {**TWO_STAGE, "hard_examples": 12}),
    "ssd": (120, {"canvas": (80, 112)}),
}
BOXES = [
    [[10, 8, 30, 68], [60, 20, 84, 75]],
    [[40, 30, 100, 62]],
]
CLASSES = [[0, 1, 0, 0], [2, 0, 0, 0]]
SEVERAL = Skeleton.join(dict.fromkeys(["cat", "dog", "fish"], FACE))


def pictures():
    """Noise with two textures for people, on canvases with padding."""
    random = np.random.default_rng(0)
    image = np.zeros((2, 80, 112, 3), np.uint8)
    size = np.array([[80, 112], [72, 105]], np.int32)
    table, person = np.zeros((2, 4, 4), np.float32), np.zeros((2, 4), bool)
    for i, rows in enumerate(BOXES):
        h, w = size[i]
        image[i, :h, :w] = random.integers(0, 120, (h, w, 3))
        for n, (x0, y0, x1, y1) in enumerate(rows):
            image[i, y0:y1, x0:x1] = random.integers(120, 256, (y1 - y0, x1 - x0, 3))
            table[i, n], person[i, n] = (x0, y0, x1, y1), True
    return DetectionBatch(image, size, table, person, np.zeros_like(person), np.ones(2, np.float32))


@pytest.mark.slow
@pytest.mark.parametrize("several", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_two_pictures_are_learnt_by_heart(kind, several):
    """Of several classes, all three have the same texture: which is which, the place says."""
    steps, changes = KINDS[kind]
    model = dataclasses.replace(DETECTORS[kind].model, **changes)
    task = model.task(SEVERAL if several else COCO)
    optim = OptimConfig(
        optimizer="adamw", learning_rate=3e-3, schedule="cosine", clip_norm=1.0, ema_decay=0.9
    )
    optimizer = make_optimizer(optim, steps)
    batch = jax.tree.map(jnp.asarray, pictures())
    if several:
        batch = batch._replace(classes=jnp.asarray(np.array(CLASSES, np.int32)))
    with jax.numpy_dtype_promotion("standard"):  # optax's Adam mixes a float with its count
        state = jax.jit(lambda: create_state(task, optimizer, jax.random.key(1), average=True))()
        step = jax.jit(train_step(task, optimizer, ema_decay=optim.ema_decay), donate_argnums=0)
        for _ in range(steps):
            state, metrics = step(state, batch)
    assert metrics["finite"].compute() == 1
    source = {
        "image": np.asarray(batch.image),
        "size": np.asarray(batch.size),
        "scale": np.ones((2, 2), np.float32),
        "index": np.arange(2),
        "weight": np.ones(2, np.float32),
    }
    found = detect_people(task, evaluation_variables(state), [source])
    truth = [
        {
            "id": 10 * i + n,
            "image_id": i,
            "category_id": 1,
            "bbox": to_xywh(np.array(box, float)).tolist(),
            "area": 1000.0,
        }
        for i, rows in enumerate(BOXES)
        for n, box in enumerate(rows)
    ]
    annotations = {"images": [{"id": 0}, {"id": 1}], "annotations": truth}
    for number in range(3) if several else [None]:
        own = found if number is None else found.of_class(number)
        people = [p for p in truth if number in (None, CLASSES[p["image_id"]][p["id"] % 10])]
        metrics = evaluate_boxes(
            Truth(annotations | {"annotations": people}),
            box_results(own.image, own.boxes, own.scores),
        )
        # Of one person, COCO's strictest threshold is a tenth.
        assert metrics["box_AP"] > (0.75 if several else 0.9), (number, metrics)
        assert metrics["box_AP50"] > 0.99, (number, metrics)
