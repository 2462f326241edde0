"""Predictions over a data set, on all devices of all hosts; every host gets all of them."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import lru_cache
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, PartitionSpec
from jaxtyping import Int

from g_rmi.training.sharding import data_mesh, put_batch, replicate, replicated

Arrays = Mapping[str, Any]


@lru_cache
def prediction_step(predict: Callable[[Any, Arrays], Any], mesh: Mesh):
    """Each device predicts its rows; then all rows go to all devices. Jitted, made once."""
    spread = jax.shard_map(
        predict,
        mesh=mesh,
        in_specs=(PartitionSpec(), PartitionSpec("data")),
        out_specs=PartitionSpec("data"),
        check_vma=False,
    )

    def run(variables, batch):
        return batch["index"], batch["weight"], spread(variables, batch)

    return jax.jit(run, out_shardings=replicated(mesh))


def predict_batches(
    predict: Callable[[Any, Arrays], Any],
    variables: Any,
    batches: Iterable[Mapping[str, np.ndarray]],
    *,
    mesh: Mesh | None = None,
) -> Iterator[tuple[Int[np.ndarray, " N"], Any]]:
    """Maps a prediction over batches of which each host reads its own part.

    Args:
      predict: Pure function (variables, batch) -> arrays, a row for each of the batch's. Compiled
        once for each function, mesh and shape.
      variables: Of the network.
      batches: Arrays of this host's rows, as many on every host; among them "index", the number of
        the row in the data set, and "weight", 0 for filling rows. Rows that do not divide over the
        devices are filled up.
      mesh: Devices; default all.

    Yields:
      Numbers of the rows and what was predicted for them: those of all hosts, on every host.
    """
    mesh = data_mesh() if mesh is None else mesh
    run = prediction_step(predict, mesh)
    variables = replicate(mesh, variables)
    pending = None
    for batch in batches:
        predicted = run(variables, put_batch(mesh, _fill(batch, len(mesh.local_devices))))
        # Fetching one batch late keeps the devices busy while the host reads the next one.
        if pending is not None:
            yield _fetch(pending)
        pending = predicted
    if pending is not None:
        yield _fetch(pending)


def _fill(batch: Mapping[str, np.ndarray], devices: int) -> dict[str, np.ndarray]:
    """As many rows for each device; the last row is repeated, with weight 0."""
    count = len(batch["weight"])
    rows = np.minimum(np.arange(-(-count // devices) * devices), count - 1)
    filled = {name: values[rows] for name, values in batch.items()}
    filled["index"] = filled["index"].astype(np.int32)
    filled["weight"][count:] = 0
    return filled


def _fetch(predicted: Any) -> tuple[np.ndarray, Any]:
    index, weight, rows = jax.device_get(predicted)
    real = weight > 0
    return index[real], jax.tree.map(lambda x: x[real], rows)
