"""The regressions of a bottom-up training: what its maps say of the people it was trained on."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from data_pipeline.loader import canvases
from data_pipeline.schema import Dataset
from experiments.parts.measure import PICTURES
from g_rmi.inference.load import PAIRS
from g_rmi.ops.pair_costs import PairModel
from g_rmi.parts.regression import PairSamples, person_of
from g_rmi.parts.task import PartsTask, as_variables
from g_rmi.training.weights import write_weights

_PICTURES = 4_000  # The authors'.


def fit_pairs(
    task: PartsTask, variables: dict, datasets: Sequence[Dataset], *, seed: int = 0
) -> PairModel:
    """Fits the regressions of all pairs on candidates in at most 4,000 training pictures."""
    samples = PairSamples(len(task.skeleton), seed)
    find = jax.jit(task.problems)
    for dataset in datasets:
        left = _PICTURES // len(datasets)
        for batch in canvases(dataset, canvas=task.config.canvas, batch_size=PICTURES):
            found = jax.device_get(find(variables, batch["image"], batch["size"]))
            for i in np.flatnonzero(batch["weight"])[:left]:
                one = jax.tree.map(lambda x, i=i: x[i], found)
                row = int(batch["index"][i])
                _add(samples, one, dataset, row, batch["scale"][i], task.config.head.radius)
                left -= 1
            if left <= 0:
                break
    return samples.fit()


def _add(
    samples: PairSamples,
    found: Any,  # a `Problem` of numpy arrays
    dataset: Dataset,
    row: int,
    scale: np.ndarray,
    radius: float,
) -> None:
    """The pairs of a picture, without candidates that may be right or wrong."""
    people = dataset.people.take(np.arange(len(dataset.people))[dataset.people_of(row)])
    points = found.candidates.points.reshape(-1, 2)
    keypoints, visible = people.keypoints / scale, people.visibility > 0
    person = person_of(
        points, found.joints, keypoints, visible & people.has_joints[:, None], radius=radius
    )
    unlabelled = people.box[~people.has_joints].reshape(-1, 2, 2) / scale
    inside = (unlabelled[:, 0, None] <= points) & (points <= unlabelled[:, 1, None])
    doubtful = inside.all(axis=-1).any(axis=0) | (not dataset.images.boxes_complete[row])
    kept = np.flatnonzero(found.candidates.valid.ravel() & ((person >= 0) | ~doubtful))
    features = found.features[np.ix_(kept, kept)]
    samples.add(features, found.joints[kept], person[kept])


def write_pairs(workdir: Path, config: dict[str, Any], model: PairModel) -> None:
    """Leaves the regressions beside the checkpoints, where `load_task` finds them."""
    write_weights(workdir / PAIRS, config, {"pairs": as_variables(model)})
