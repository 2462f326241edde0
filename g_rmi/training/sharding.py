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


def check_batch_size(mesh: Mesh, batch_size: int, grad_accumulation: int = 1) -> None:
    """Checks that every device gets the same number of rows in every micro-batch.

    If not, a ValueError names batch sizes that would do.
    """
    unit = mesh.size * grad_accumulation
    if batch_size % unit:
        low = batch_size // unit * unit
        choices = f"{low} or {low + unit}" if low else f"{unit}"
        raise ValueError(
            f"batch_size = {batch_size} does not split evenly over {mesh.size} devices x "
            f"{grad_accumulation} micro-batches: use a multiple of {unit}, such as {choices}"
        )


def put_batch(mesh: Mesh, batch: PyTree) -> PyTree:
    """This host's rows, numpy arrays -> one global batch of the rows of all, split over the mesh.

    Hosts hold equal numbers of rows.
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


def abstract(init: Callable[..., PyTree], mesh: Mesh, *args: PyTree, fsdp: bool = False) -> PyTree:
    """Shapes, types and shardings of a state that `init(*args)` makes; computes nothing.

    With `fsdp` (fully sharded data parallelism) parameters, optimiser state and averages are split
    over the devices instead of copied to each: large arrays, along their longest axis that the
    devices divide. The compiler gathers weights where they are used.
    """

    def place(x) -> jax.ShapeDtypeStruct:
        sharding = replicated(mesh)
        axes = [i for i, side in enumerate(x.shape) if side % mesh.size == 0]
        if fsdp and axes and x.size >= _SPLIT_FROM:
            longest = max(axes, key=lambda i: x.shape[i])
            sharding = NamedSharding(mesh, PartitionSpec(*(None,) * longest, "data"))
        return jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding)

    return jax.tree.map(place, jax.eval_shape(init, *args))


def initialise(
    init: Callable[..., PyTree], mesh: Mesh, *args: PyTree, fsdp: bool = False
) -> PyTree:
    """Runs `init(*args)` compiled; its results are born where `abstract` says they live."""
    planned = abstract(init, mesh, *args, fsdp=fsdp)
    return jax.jit(init, out_shardings=jax.tree.map(lambda x: x.sharding, planned))(*args)
