"""Data parallelism: a mesh axis "data" splits the batch, and on request also the state (FSDP)."""

from collections.abc import Callable, Sequence

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec
from jaxtyping import PyTree

# Smaller arrays are not worth a message: they stay whole.
_SPLIT_FROM = 2**12


def data_mesh(devices: Sequence[jax.Device] | None = None) -> Mesh:
    """A mesh with the axis "data" over the given devices (default: all, of all hosts)."""
    devices = jax.devices() if devices is None else devices
    return Mesh(np.asarray(devices), ("data",), axis_types=(AxisType.Auto,))


def replicated(mesh: Mesh) -> NamedSharding:
    """The same array on every device."""
    return NamedSharding(mesh, PartitionSpec())


def batch_sharding(mesh: Mesh) -> NamedSharding:
    """The leading axis split over the devices."""
    return NamedSharding(mesh, PartitionSpec("data"))


def check_batch_size(mesh: Mesh, batch_size: int, accumulate: int = 1) -> None:
    """Checks that every device gets the same number of rows in every micro-batch.

    Raises:
      ValueError: It does not; the message names batch sizes that would do.
    """
    unit = mesh.size * accumulate
    if batch_size % unit:
        low = batch_size // unit * unit
        choices = f"{low} or {low + unit}" if low else f"{unit}"
        raise ValueError(
            f"batch_size = {batch_size} does not split evenly over {mesh.size} devices x "
            f"{accumulate} micro-batches: use a multiple of {unit}, such as {choices}"
        )


def put_batch(mesh: Mesh, batch: PyTree) -> PyTree:
    """Host arrays -> one global batch, split over the mesh.

    Args:
      mesh: The mesh.
      batch: Numpy arrays with the rows of this host; hosts hold equal numbers of rows.

    Returns:
      Arrays whose leading axis runs over the rows of all hosts.
    """
    sharding = batch_sharding(mesh)
    return jax.tree.map(lambda x: jax.make_array_from_process_local_data(sharding, x), batch)


def replicate(mesh: Mesh, tree: PyTree) -> PyTree:
    """Arrays, the same on every host -> the same on every device; what is on the mesh stays."""
    devices = set(mesh.devices.flat)

    def place(x):
        if isinstance(x, jax.Array) and x.sharding.device_set == devices:
            return x
        return jax.make_array_from_process_local_data(replicated(mesh), np.asarray(x))

    return jax.tree.map(place, tree)


def state_sharding(mesh: Mesh, shapes: PyTree, *, fsdp: bool = False) -> PyTree:
    """Where the arrays of a training state live.

    Args:
      mesh: The mesh.
      shapes: The state, or what has its shapes.
      fsdp: Split parameters, optimiser state and averages over the devices instead of keeping a
        copy on each (fully sharded data parallelism): large arrays, along their longest axis that
        the devices divide. The compiler gathers weights where they are used.

    Returns:
      A sharding for each array.
    """

    def sharding(x) -> NamedSharding:
        axes = [i for i, side in enumerate(x.shape) if side % mesh.size == 0]
        if not fsdp or not axes or x.size < _SPLIT_FROM:
            return replicated(mesh)
        longest = max(axes, key=lambda i: x.shape[i])
        return NamedSharding(mesh, PartitionSpec(*(None,) * longest, "data"))

    return jax.tree.map(sharding, shapes)


def abstract(init: Callable[..., PyTree], mesh: Mesh, *args: PyTree, fsdp: bool = False) -> PyTree:
    """Shapes, types and shardings of what `initialise` would make; computes nothing."""
    shapes = jax.eval_shape(init, *args)
    return jax.tree.map(
        lambda x, sharding: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding),
        shapes,
        state_sharding(mesh, shapes, fsdp=fsdp),
    )


def initialise(
    init: Callable[..., PyTree], mesh: Mesh, *args: PyTree, fsdp: bool = False
) -> PyTree:
    """Runs `init(*args)` compiled; its results are born where they will live."""
    shardings = state_sharding(mesh, jax.eval_shape(init, *args), fsdp=fsdp)
    return jax.jit(init, out_shardings=shardings)(*args)
