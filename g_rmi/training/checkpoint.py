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
import pathlib
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
from jax.experimental import multihost_utils

from g_rmi.config import nearest
from g_rmi.training.state import TrainState
from g_rmi.training.task import Variables

Json = dict[str, Any]

# Fields of an experiment that may change between a run and its continuation.
FREE_FIELDS = frozenset(
    {
        "train.steps",
        "train.log_every",
        "train.evaluate_every",
        "train.checkpoint_every",
        "train.keep",
        "data.threads",
    }
)


class Restored(NamedTuple):
    """What a checkpoint held, and the newer ones that could not be read, with the reasons."""

    step: int
    state: TrainState
    iterator: Json
    unreadable: dict[int, str]


def write_config(workdir: pathlib.Path, config: Mapping[str, Any]) -> None:
    """Writes `config.json`, whole or not at all; the first host does."""
    if jax.process_index():
        return
    workdir.mkdir(parents=True, exist_ok=True)
    part = workdir / "config.json.part"
    part.write_text(json.dumps(config, indent=2) + "\n")
    part.replace(workdir / "config.json")


def check_same(
    what: str, saved: Mapping[str, Any], wanted: Mapping[str, Any], free: frozenset[str]
) -> None:
    """Checks that a run continues with what it was started with.

    Raises:
      ValueError: One line that names the fields that differ, with both values.
    """
    old, new = dict(_flatten(saved)), dict(_flatten(json.loads(json.dumps(wanted))))
    different = [
        f"{name} = {old.get(name, 'absent')!r} there, {new.get(name, 'absent')!r} here"
        for name in sorted(old.keys() | new.keys())
        if name not in free and (name not in old or name not in new or old[name] != new[name])
    ]
    if different:
        raise ValueError(
            f"{what} differs from the checkpoint's: {'; '.join(different)}. "
            "Use the same values to continue it, or another workdir"
        )


class Checkpoints:
    """The checkpoints of one workdir. Saving is asynchronous; `close` waits for it."""

    def __init__(self, workdir: pathlib.Path, *, keep: int):
        self._directory = (workdir / "checkpoints").absolute()
        self._manager = ocp.CheckpointManager(
            self._directory,
            options=ocp.CheckpointManagerOptions(max_to_keep=keep),
            item_names=("state", "iterator", "config", "data"),
        )

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
            state=ocp.args.StandardSave(_to_tree(state)),
            iterator=ocp.args.JsonSave({"processes": _from_all_processes(iterator)}),
            config=ocp.args.JsonSave(config),
            data=ocp.args.JsonSave(data),
        )
        self._manager.save(step, args=items, force=True)

    def restore_latest(self, abstract: TrainState, config: Json, data: Json) -> Restored | None:
        """Restores the newest checkpoint that can be read; None if there is none at all.

        Args:
          abstract: Shapes, types and shardings; the device count may differ from the saved one.
          config: The requested experiment; it must equal the saved one but for `FREE_FIELDS`.
          data: The fingerprint of the data; it must equal the saved one.

        Raises:
          ValueError: Config or data differ (the fields are named), or no checkpoint can be read.
        """
        unreadable = {}
        for step in sorted(self._manager.all_steps(), reverse=True):
            try:
                saved = self._read(step, "iterator", "config", "data")
            except Exception as error:  # damage shows up as any of a dozen types
                unreadable[step] = _first_line(error)
                continue
            check_same("the config", saved["config"], config, FREE_FIELDS)
            check_same("the data", saved["data"], data, frozenset())
            try:
                args = ocp.args.StandardRestore(_to_tree(abstract))
                tree = self._manager.restore(step, args=ocp.args.Composite(state=args))["state"]
            except Exception as error:
                unreadable[step] = _first_line(error)
                continue
            self._set_aside(unreadable)
            iterator = _own_process(saved["iterator"]["processes"])
            return Restored(step, _from_tree(tree), iterator, unreadable)
        if unreadable:
            reasons = "; ".join(f"step {step}: {reason}" for step, reason in unreadable.items())
            raise ValueError(f"{self._directory}: no checkpoint can be read ({reasons})")
        return None

    def close(self) -> None:
        """Waits for what is being saved."""
        self._manager.wait_until_finished()
        self._manager.close()

    def _read(self, step: int, *names: str) -> dict[str, Json]:
        args = ocp.args.Composite(**{name: ocp.args.JsonRestore() for name in names})
        restored = self._manager.restore(step, args=args)
        return {name: restored[name] for name in names}

    def _set_aside(self, steps: Mapping[int, str]) -> None:
        """Renames damaged checkpoints, so that their steps can be saved again."""
        if steps and jax.process_index() == 0:
            for step in steps:
                (self._directory / str(step)).rename(self._directory / f"unreadable-{step}")
        if steps:
            multihost_utils.sync_global_devices("damaged checkpoints set aside")
            self._manager.reload()


def load_variables(workdir: str | pathlib.Path) -> tuple[Json, Variables]:
    """Loads what evaluation needs: the newest readable checkpoint, without its optimiser.

    Args:
      workdir: Directory of a training.

    Returns:
      Its config and the (averaged) variables, on the default device.

    Raises:
      ValueError: The directory is not a workdir, or holds no readable checkpoint.
    """
    workdir = pathlib.Path(workdir)
    directory = (workdir / "checkpoints").absolute()
    if not directory.is_dir():
        raise ValueError(_not_a_workdir(workdir))
    handlers = {"state": ocp.PyTreeCheckpointHandler(), "config": ocp.JsonCheckpointHandler()}
    with ocp.CheckpointManager(directory, item_handlers=handlers) as manager:
        unreadable = []
        for step in sorted(manager.all_steps(), reverse=True):
            try:
                config = ocp.args.Composite(config=ocp.args.JsonRestore())
                return manager.restore(step, args=config)["config"], _load(manager, step)
            except Exception as error:
                unreadable.append(f"step {step}: {_first_line(error)}")
    raise ValueError(f"{workdir}: no readable checkpoint ({'; '.join(unreadable) or 'none saved'})")


def _load(manager: ocp.CheckpointManager, step: int) -> Variables:
    tree = manager.item_metadata(step)["state"].tree
    names = ("params", "model_state") if tree["average"] is None else ("average",)
    wanted = {name: tree[name] for name in names}
    args = ocp.args.PyTreeRestore(
        wanted,
        restore_args=jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), wanted),
        partial_restore=True,
    )
    tree = manager.restore(step, args=ocp.args.Composite(state=args))["state"]
    variables = tree.get("average") or {"params": tree["params"], **tree["model_state"]}
    return jax.tree.map(jnp.asarray, variables)


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
    """A state, or its shapes, as the plain tree that is stored."""
    key = state.key
    if isinstance(key, jax.ShapeDtypeStruct):
        data = jax.eval_shape(jax.random.key_data, key)
        data = jax.ShapeDtypeStruct(data.shape, data.dtype, sharding=key.sharding)
    else:
        data = jax.random.key_data(key)
    return {
        "step": state.step,
        "params": state.params,
        "model_state": state.model_state,
        "opt_state": state.opt_state,
        "average": state.average,
        "key": data,
    }


def _from_tree(tree: Json) -> TrainState:
    return TrainState(**{**tree, "key": jax.random.wrap_key_data(tree["key"])})


def _from_all_processes(value: Json) -> list[Json]:
    """Every host's value, in host order, on every host."""
    if jax.process_count() == 1:
        return [value]
    text = np.frombuffer(json.dumps(value).encode(), np.uint8)
    size = int(np.max(multihost_utils.process_allgather(np.int32(text.size))))
    padded = np.full(size, ord(" "), np.uint8)
    padded[: text.size] = text
    return [json.loads(bytes(row)) for row in multihost_utils.process_allgather(padded)]


def _own_process(values: list[Json]) -> Json:
    """This host's value; with another number of hosts than saved, the first one's."""
    same = len(values) == jax.process_count()
    return values[jax.process_index() if same else 0]


def _flatten(tree: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in tree.items():
        if isinstance(value, Mapping):
            yield from _flatten(value, f"{path}{name}.")
        else:
            yield path + name, value


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
