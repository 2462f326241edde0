"""Checkpoints of the whole run, {state, iterator, config, data}, and where weights come from.

A training starts from the first of these that exists:

1. the newest readable checkpoint of its own workdir: state, data position and all;
2. another workdir that the caller names: its evaluation variables (`load_variables`), step 0;
3. pretrained weights that the caller names, such as an ImageNet ResNet, step 0;
4. scratch: the initialisers of the model.

The caller passes 2 or 3 as the loop's `init_variables`. A workdir holds `config.json` (for humans
and tools), `checkpoints/STEP/{state,iterator,config,data}`, and the metrics.
"""

import json
import logging
import pathlib
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
from jax.experimental import multihost_utils
from jaxtyping import Array, UInt32

from g_rmi.config import flatten, nearest
from g_rmi.training.state import TrainState
from g_rmi.training.task import Variables
from g_rmi.training.weights import SUFFIX, read_weights

Json = dict[str, Any]
T = TypeVar("T")

AS_NUMPY = ocp.RestoreArgs(restore_type=np.ndarray)

_log = logging.getLogger(__name__)

# Fields of an experiment that may change between a run and its continuation.
FREE_FIELDS = frozenset(
    {
        "train.steps",
        "train.log_every",
        "train.evaluate_every",
        "train.checkpoint_every",
        "train.keep",
        "train.fsdp",
        "data.threads",
    }
)


class Restored(NamedTuple):
    """What a training continues from."""

    step: int
    state: TrainState
    iterator: Json


def write_config(workdir: pathlib.Path, config: Mapping[str, Any]) -> None:
    """Writes `config.json`, whole or not at all; the first host does."""
    if jax.process_index():
        return
    workdir.mkdir(parents=True, exist_ok=True)
    part = workdir / "config.json.part"
    part.write_text(json.dumps(config, indent=2) + "\n")
    part.replace(workdir / "config.json")


class Mismatch(ValueError):
    """A checkpoint is sound, but belongs to another experiment."""


def check_same(
    workdir: pathlib.Path, what: str, saved: Json, wanted: Json, *, free: frozenset[str]
) -> None:
    """Checks that a run continues with what it was started with.

    Args:
      workdir: For the message.
      what: "another config" or "other data", for the message.
      saved: Values of the checkpoint.
      wanted: Values of the run that wants to continue it.
      free: Dotted names of fields that may differ.

    Raises:
      Mismatch: One line that names the fields that differ, with both values.
    """
    old, new = dict(flatten(saved)), dict(flatten(json.loads(json.dumps(wanted))))
    different = [
        f"{name} was {old.get(name)!r}, is {new.get(name)!r}"
        for name in sorted((old.keys() | new.keys()) - free)
        if name not in old or name not in new or old[name] != new[name]
    ]
    if different:
        raise Mismatch(
            f"{workdir} was started with {what}: {'; '.join(different)} "
            "(go back to the first values, or choose another workdir)"
        )


class Checkpoints:
    """The checkpoints of one workdir. Saving is asynchronous; closing waits for it."""

    def __init__(self, workdir: pathlib.Path, *, keep: int | None = None):
        """Opens the directory.

        Args:
          workdir: Directory of the training.
          keep: Newest checkpoints kept when saving; None for all.

        Raises:
          ValueError: The workdir is a file.
        """
        if workdir.exists() and not workdir.is_dir():
            raise ValueError(f"{workdir} is not a directory")
        self._workdir = workdir
        self._directory = (workdir / "checkpoints").absolute()
        json_items = {name: ocp.JsonCheckpointHandler() for name in ("iterator", "config", "data")}
        self._manager = ocp.CheckpointManager(
            self._directory,
            options=ocp.CheckpointManagerOptions(max_to_keep=keep),
            item_handlers={"state": ocp.PyTreeCheckpointHandler(), **json_items},
        )

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, *_) -> None:
        self._manager.wait_until_finished()
        self._manager.close()

    def save(self, step: int, state: TrainState, iterator: Json, config: Json, data: Json) -> None:
        """Starts to save; the state may be donated as soon as this returns.

        Args:
          step: Finished steps, `state.step`.
          state: The state.
          iterator: Position of this host's data, before the next batch.
          config: The experiment.
          data: Fingerprint of the data.
        """
        items = ocp.args.Composite(
            state=ocp.args.PyTreeSave(_to_tree(state)),
            iterator=ocp.args.JsonSave({"hosts": _from_all_hosts(iterator)}),
            config=ocp.args.JsonSave(config),
            data=ocp.args.JsonSave(data),
        )
        self._manager.save(step, args=items, force=True)

    def restore_latest(self, abstract: TrainState, config: Json, data: Json) -> Restored | None:
        """Restores the newest checkpoint that can be read; None if there is none at all.

        Damaged checkpoints that are newer are renamed, so that their steps can be saved again.

        Args:
          abstract: Shapes, types and shardings; the device count may differ from the saved one.
          config: The requested experiment; must equal the saved one but for `FREE_FIELDS`.
          data: The fingerprint of the data; must equal the saved one.

        Raises:
          Mismatch: Config or data differ; the fields are named.
          ValueError: There are checkpoints, but none can be read.
        """
        wanted = jax.eval_shape(_to_tree, abstract)
        sharding = abstract.step.sharding
        wanted = jax.tree.map(
            lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), wanted
        )

        def read(step: int) -> Restored:
            saved = self._read_json(step, "config")
            check_same(self._workdir, "another config", saved, config, free=FREE_FIELDS)
            saved = self._read_json(step, "data")
            check_same(self._workdir, "other data", saved, data, free=frozenset())
            hosts = self._read_json(step, "iterator")["hosts"]
            # On another number of hosts each takes the first one's position.
            own = jax.process_index() if len(hosts) == jax.process_count() else 0
            restore_args = ocp.checkpoint_utils.construct_restore_args(wanted)
            tree = _verified(self._read_arrays(step, wanted, restore_args))
            return Restored(step, _from_tree(tree), hosts[own])

        restored = self._newest_readable(read)
        if restored:
            self._set_aside([step for step in self._manager.all_steps() if step > restored.step])
        return restored

    def load_latest(self, *, average: bool = True) -> tuple[Json, Variables] | None:
        """Loads config and evaluation variables of the newest checkpoint that can be read.

        Args:
          average: The average of the weights if there is one; False for the last weights.
        """

        def read(step: int) -> tuple[Json, Variables]:
            tree = self._manager.item_metadata(step)["state"].tree
            averaged = average and tree["average"] is not None
            names = ("average",) if averaged else ("params", "model_state")
            wanted = {name: tree[name] for name in (*names, "checksums")}
            as_numpy = jax.tree.map(lambda _: AS_NUMPY, wanted)
            tree = _verified(self._read_arrays(step, wanted, as_numpy))
            variables = tree.get("average") or {"params": tree["params"], **tree["model_state"]}
            return self._read_json(step, "config"), variables

        return self._newest_readable(read)

    def _read_json(self, step: int, name: str) -> Json:
        args = ocp.args.Composite(**{name: ocp.args.JsonRestore()})
        return self._manager.restore(step, args=args)[name]

    def _read_arrays(self, step: int, wanted: Json, restore_args: Json) -> Json:
        args = ocp.args.PyTreeRestore(wanted, restore_args=restore_args, partial_restore=True)
        tree = self._manager.restore(step, args=ocp.args.Composite(state=args))["state"]
        return jax.tree.map(jnp.asarray, tree)

    def _newest_readable(self, read: Callable[[int], T]) -> T | None:
        """What `read` makes of the newest step that it can read; names the steps it cannot."""
        reasons = []
        for step in sorted(self._manager.all_steps(), reverse=True):
            try:
                # One array first: when one read of many fails, the others print tracebacks.
                self._read_arrays(step, {"step": 0}, {"step": AS_NUMPY})
                return read(step)
            except Mismatch:
                raise
            except Exception as error:  # damage shows up as any of a dozen types
                reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
                reasons.append(f"{self._directory / str(step)} cannot be read: {reason:.120}")
                _log.warning("%s", reasons[-1])
        if reasons:
            raise ValueError(f"no readable checkpoint: {reasons[0]}")
        return None

    def _set_aside(self, steps: list[int]) -> None:
        for step in steps:
            if jax.process_index() == 0:
                name = f"unreadable-{step}-{time.time():.0f}"
                (self._directory / str(step)).rename(self._directory / name)
            multihost_utils.sync_global_devices(f"set {step} aside")
            self._manager.reload()


def load_variables(workdir: str | pathlib.Path, *, average: bool = True) -> tuple[Json, Variables]:
    """Loads what evaluation needs: the newest readable checkpoint, without its optimiser.

    Args:
      workdir: Directory of a training, or a file of `g_rmi.training.weights`.
      average: The average of the weights if there is one; False for the last weights. A file has
        one kind.

    Returns:
      Its config and the (averaged) variables, on the default device.

    Raises:
      ValueError: Not a workdir or a weights file, or it holds no readable checkpoint.
    """
    workdir = pathlib.Path(workdir)
    if workdir.suffix == SUFFIX:
        return read_weights(workdir)
    if not (workdir / "checkpoints").is_dir():
        raise ValueError(_not_a_workdir(workdir))
    with Checkpoints(workdir) as checkpoints:
        loaded = checkpoints.load_latest(average=average)
    if loaded is None:
        raise ValueError(f"{workdir} has no checkpoint yet")
    return loaded


def _not_a_workdir(path: pathlib.Path) -> str:
    if not path.exists():
        siblings = path.parent.glob("*/checkpoints")
        names = [sibling.parent.name for sibling in siblings]
        hint = nearest(path.name, names) if names else ""
        return f"{path} does not exist{hint}"
    inside = sorted(found.parent for found in path.glob("*/checkpoints"))
    hint = f"; did you mean {str(inside[-1])!r}?" if inside else ""
    return f"{path} is not a workdir: it has no checkpoints{hint}"


def _to_tree(state: TrainState) -> Json:
    """A state as the plain tree that is stored: key as numbers, a checksum per entry."""
    tree = {
        "step": state.step,
        "params": state.params,
        "model_state": state.model_state,
        "opt_state": state.opt_state,
        "average": state.average,
        "key": jax.random.key_data(state.key),
    }
    return {**tree, "checksums": _checksums(tree)}


def _from_tree(tree: Json) -> TrainState:
    return TrainState(**{**tree, "key": jax.random.wrap_key_data(tree["key"])})


def _verified(tree: Json) -> Json:
    """A stored tree without its checksums, which must be right."""
    arrays = {name: value for name, value in tree.items() if name != "checksums"}
    for name, value in _checksums(arrays).items():
        if value != tree["checksums"][name]:
            raise ValueError(f"checksum of {name} is wrong")
    return arrays


@jax.jit
def _checksums(tree: Json) -> dict[str, UInt32[Array, ""]]:
    """Per entry sum_i (2 i + 1) word_i modulo 2^32, over the bits of its arrays.

    The files have no checksum of their own and what is missing from them reads as zeros. Integer
    sums do not depend on the number of devices, and odd factors let no single error vanish.
    """

    def checksum(x: Array) -> UInt32[Array, ""]:
        width = 8 * x.dtype.itemsize
        words = x if x.dtype == bool else jax.lax.bitcast_convert_type(x, f"uint{width}")
        words = words.astype(jnp.uint32).ravel()
        return jnp.sum(words * (2 * jnp.arange(words.size, dtype=jnp.uint32) + 1))

    zero = jnp.uint32(0)
    return {name: sum(map(checksum, jax.tree.leaves(part)), zero) for name, part in tree.items()}


def _from_all_hosts(value: Json) -> list[Json]:
    """Every host's value, in host order, on every host."""
    if jax.process_count() == 1:
        return [value]
    text = np.frombuffer(json.dumps(value).encode(), np.uint8)
    size = int(np.max(multihost_utils.process_allgather(np.int32(text.size))))
    padded = np.full(size, ord(" "), np.uint8)
    padded[: text.size] = text
    return [json.loads(bytes(row)) for row in multihost_utils.process_allgather(padded)]
