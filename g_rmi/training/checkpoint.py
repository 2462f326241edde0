"""Checkpoints of the whole run, {state, iterator, config, data}, and where weights come from.

A training starts from the first of these that exists:

1. the newest readable checkpoint of its own workdir: state, data position and all;
2. another workdir that the caller names: its evaluation variables (`load_variables`), step 0;
3. pretrained weights that the caller names, such as an ImageNet ResNet, step 0;
4. scratch: the initialisers of the model.

The caller passes 2 or 3 as the loop's `init_variables`. A workdir holds `config.json` (for humans
and tools), `checkpoints/STEP/{state,iterator,config,data,metric}`, and the metrics.
"""

import contextlib
import functools
import json
import logging
import math
import os
import pathlib
import shutil
import time
from collections.abc import Callable, Iterable, Mapping
from errno import EACCES, EDQUOT, EFBIG, ENOSPC, EROFS
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
from jax.experimental import multihost_utils

from g_rmi.config import nearest, upgrade
from g_rmi.files import write_whole
from g_rmi.training.checksum import checksums, verified
from g_rmi.training.mismatch import FREE_FIELDS, Mismatch, check_same
from g_rmi.training.state import TrainState
from g_rmi.training.task import Variables
from g_rmi.training.weights import SUFFIX, read_weights

Json = dict[str, Any]
T = TypeVar("T")

_JSON_ITEMS = ("iterator", "config", "data", "metric")

_log = logging.getLogger(__name__)


class Restored(NamedTuple):
    """What a training continues from."""

    step: int
    state: TrainState
    iterator: Json


def write_config(workdir: pathlib.Path, config: Mapping[str, Any]) -> None:
    """Writes `config.json`; the first host does."""
    if jax.process_index() == 0:
        write_whole(workdir / "config.json", json.dumps(config, indent=2) + "\n")


class Checkpoints:
    """The checkpoints of one workdir. Saving is asynchronous; closing waits for it."""

    def __init__(self, workdir: pathlib.Path, *, keep: int | None = None, keep_best: int = 0):
        """Opens the directory; a ValueError if it is a file.

        Saving keeps the newest `keep`, and besides the `keep_best` with the best metric. A number
        also clears away what killed runs left half-written; None keeps all, and is for readers.
        """
        if workdir.exists() and not workdir.is_dir():
            raise ValueError(f"{workdir} is not a directory")
        self._workdir = workdir
        self._directory = (workdir / "checkpoints").absolute()
        self._keep, self._keep_best = keep, keep_best
        self._metrics: dict[int, Json] = {}
        self._saving: int | None = None
        self._errors: list[Any] = []
        if keep is not None and jax.process_index() == 0:
            # Not Orbax's clean-up, whose thread would exchange messages in the midst of ours.
            for path in self._directory.glob(f"*{ocp.utils.TMP_DIR_SUFFIX}*"):
                shutil.rmtree(path, ignore_errors=True)
        handlers: Json = {name: ocp.JsonCheckpointHandler() for name in _JSON_ITEMS}
        handlers["state"] = ocp.PyTreeCheckpointHandler()
        self._manager = ocp.CheckpointManager(self._directory, item_handlers=handlers)

    def __enter__(self) -> "Checkpoints":
        logging.getLogger("absl").addFilter(self._catch)
        return self

    def __exit__(self, kind: type[BaseException] | None, *_) -> None:
        try:
            self._settle()
        except OSError as error:
            if kind is None:
                raise
            if not issubclass(kind, OSError):  # else it has been said
                _log.warning("%s", error)  # what ended the run comes first
        finally:
            with contextlib.suppress(Exception):  # the same once more
                self._manager.close()
            logging.getLogger("absl").removeFilter(self._catch)

    def _catch(self, record: logging.LogRecord) -> bool:
        """Keeps to itself what Orbax's threads would print as tracebacks, several for one error."""
        if record.levelno < logging.ERROR:
            return True
        self._errors.append(record.exc_info[1] if record.exc_info else record.getMessage())
        return False

    def _settle(self) -> None:
        """Waits until the last save is complete; only then deletes what is no longer kept.

        Orbax deletes the old ones even when it could not write the new one, and may say nothing.
        """
        try:
            self._manager.wait_until_finished()
        except Exception as error:
            raise self._failure(error) from error
        written = self._saving is None or (self._directory / str(self._saving)).is_dir()
        if not written and jax.process_index() == 0:  # others may see the directory later
            raise self._failure()
        self._saving = None
        if self._keep is not None and jax.process_index() == 0:
            steps = sorted(self._manager.all_steps())
            kept = {*steps[-self._keep :], *self._best_first(steps)[: self._keep_best]}
            for step in set(steps) - kept:
                shutil.rmtree(self._directory / str(step), ignore_errors=True)
            self._manager.reload()

    def _failure(self, *errors: Exception) -> OSError:
        text = " ".join(map(str, (*self._errors, *errors))) or "for an unknown reason"
        known = (os.strerror(number) for number in (ENOSPC, EDQUOT, EFBIG, EROFS, EACCES))
        reason = next((reason for reason in known if reason in text), f"{text:.200}")
        names = [path.name for path in self._directory.iterdir() if path.name.isdecimal()]
        there = ", ".join(sorted(names, key=int)) or "none"
        return OSError(
            f"{self._directory}: checkpoint {self._saving} cannot be written: {reason}; "
            f"whole are: {there}"
        )

    def save(
        self,
        step: int,
        state: TrainState,
        iterator: Json,
        config: Json,
        data: Json,
        *,
        metric: Mapping[str, float] | None = None,
    ) -> None:
        """Starts to save; the state may be donated as soon as this returns.

        `iterator` is the position of this host's data before the next batch, `data` the data's
        fingerprint; `metric` has name and value of the one number that ranks checkpoints, the
        larger the better, unless the state was not evaluated. An OSError if this or the one before
        cannot be written; the older ones stay as they are.
        """
        self._settle()
        self._errors.clear()
        metric = {name: value for name, value in (metric or {}).items() if math.isfinite(value)}
        items = ocp.args.Composite(
            state=ocp.args.PyTreeSave(_to_tree(state)),
            iterator=ocp.args.JsonSave({"hosts": _from_all_hosts(iterator)}),
            config=ocp.args.JsonSave(config),
            data=ocp.args.JsonSave(data),
            metric=ocp.args.JsonSave(metric),
        )
        self._saving, self._metrics[step] = step, metric
        try:
            self._manager.save(step, args=items, force=True)
        except Exception as error:
            raise self._failure(error) from error

    def restore_latest(
        self,
        abstract: TrainState,
        config: Json,
        data: Json,
        *,
        defaults: Mapping[str, Any] | None = None,
    ) -> Restored | None:
        """Restores the newest checkpoint that can be read; None if there is none at all.

        Damaged checkpoints that are newer are renamed, so that their steps can be saved again.
        `abstract` has shapes, types and shardings; the device count may differ from the saved one.
        `defaults` are the values of the experiment's fields before there were such fields.

        Raises:
          Mismatch: Config, but for `FREE_FIELDS`, or data differ; the fields are named.
          ValueError: There are checkpoints, but none can be read.
        """
        sharding = abstract.step.sharding
        wanted = jax.tree.map(
            lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding),
            jax.eval_shape(_to_tree, abstract),
        )
        same = functools.partial(check_same, self._workdir)

        def read(step: int) -> Restored:
            saved = upgrade(self._read_json(step, "config"))
            same("another config", saved, upgrade(config), free=FREE_FIELDS, defaults=defaults)
            same("other data", self._read_json(step, "data"), data)
            stored = _shapes(self._manager.item_metadata(step)["state"].tree)
            fresh = _shapes(wanted)
            # With one config the optimiser's part differs between versions of the code alone.
            optimizer = frozenset(k for k in stored | fresh if k.startswith("opt_state/"))
            same("another network", stored, fresh, free=optimizer)
            same("another optimiser", stored, fresh)
            hosts = self._read_json(step, "iterator")["hosts"]
            # On another number of hosts each takes the first one's position.
            own = jax.process_index() if len(hosts) == jax.process_count() else 0
            how = ocp.checkpoint_utils.construct_restore_args(wanted)
            tree = verified(self._read_arrays(step, wanted, how))
            key = jax.random.wrap_key_data(tree["key"])
            return Restored(step, TrainState(**{**tree, "key": key}), hosts[own])

        restored = self._first_readable(self._choose("latest"), read)
        for step in self._manager.all_steps():
            if restored and step > restored.step:
                self._set_aside(step)
        return restored

    def load(self, which: str = "latest", *, average: bool = True) -> tuple[Json, Variables] | None:
        """Loads config and variables of a checkpoint; None if "latest" is wanted and there is none.

        "latest" is the newest that can be read, "best" of those kept the one with the best metric;
        or a step. The variables are the average if there is one and it is wanted, else the last. A
        ValueError if there is no such checkpoint, or none that can be read.
        """

        def read(step: int) -> tuple[Json, Variables]:
            tree = self._manager.item_metadata(step)["state"].tree
            averaged = average and tree["average"] is not None
            names = ("average",) if averaged else ("params", "model_state")
            wanted = {name: tree[name] for name in (*names, "checksums")}
            tree = verified(self._read_arrays(step, wanted))
            variables = tree.get("average") or {"params": tree["params"], **tree["model_state"]}
            return upgrade(self._read_json(step, "config")), variables

        return self._first_readable(self._choose(which), read)

    def _choose(self, which: str) -> list[int]:
        """Steps to try, in this order."""
        steps = sorted(self._manager.all_steps(), reverse=True)
        choices = {str(step): [step] for step in steps} | {"latest": steps}
        if best := self._best_first(steps):
            choices["best"] = best[:1]
        if which not in choices:
            raise ValueError(
                f"{self._workdir} has no checkpoint {which!r}; choices: {', '.join(choices)}"
            )
        return choices[which]

    def _best_first(self, steps: Iterable[int]) -> list[int]:
        """Those of the steps that were evaluated; of equals the later first."""
        for step in set(steps) - self._metrics.keys():
            path = self._directory / str(step) / "metric" / "metadata"
            try:  # not by Orbax, which all hosts would have to ask together
                self._metrics[step] = json.loads(path.read_text())
            except (OSError, ValueError):  # damaged, or of a version that wrote none
                self._metrics[step] = {}
        evaluated = [(*self._metrics[step].values(), step) for step in steps if self._metrics[step]]
        return [step for _, step in sorted(evaluated, reverse=True)]

    def _read_json(self, step: int, name: str) -> Json:
        args = ocp.args.Composite(**{name: ocp.args.JsonRestore()})
        return self._manager.restore(step, args=args)[name]

    def _read_arrays(self, step: int, wanted: Json, how: Json | None = None) -> Json:
        how = how or jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), wanted)
        args = ocp.args.PyTreeRestore(wanted, restore_args=how, partial_restore=True)
        tree = self._manager.restore(step, args=ocp.args.Composite(state=args))["state"]
        return jax.tree.map(jnp.asarray, tree)

    def _first_readable(self, steps: list[int], read: Callable[[int], T]) -> T | None:
        """What `read` makes of the first step that it can read; names the steps it cannot."""
        reasons = []
        for step in steps:
            try:
                # One array first: when one read of many fails, the others print tracebacks.
                self._read_arrays(step, {"step": 0})
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

    def _set_aside(self, step: int) -> None:
        if jax.process_index() == 0:
            name = f"unreadable-{step}-{time.time():.0f}"
            (self._directory / str(step)).rename(self._directory / name)
        multihost_utils.sync_global_devices(f"set {step} aside")
        self._manager.reload()


def load_variables(
    workdir: str | pathlib.Path, checkpoint: str = "latest", *, average: bool = True
) -> tuple[Json, Variables]:
    """Loads what evaluation needs, a checkpoint without its optimiser: config and variables.

    Of a workdir as `Checkpoints.load` does, or of a file of `g_rmi.training.weights`, which is
    always "latest" and holds one kind of weights; onto the default device. A ValueError if it is
    neither, or holds no such readable checkpoint.
    """
    workdir = pathlib.Path(workdir)
    if workdir.suffix == SUFFIX:
        if checkpoint != "latest":
            raise ValueError(f"{workdir} is a file of one checkpoint: it has no {checkpoint!r}")
        return read_weights(workdir)
    if not (workdir / "checkpoints").is_dir():
        raise ValueError(_not_a_workdir(workdir))
    with Checkpoints(workdir) as checkpoints:
        loaded = checkpoints.load(checkpoint, average=average)
    if loaded is None:
        raise ValueError(f"{workdir} has no checkpoint yet")
    return loaded


def _not_a_workdir(path: pathlib.Path) -> str:
    if not path.exists():
        names = [sibling.parent.name for sibling in path.parent.glob("*/checkpoints")]
        return f"{path} does not exist{nearest(path.name, names) if names else ''}"
    inside = sorted(found.parent for found in path.glob("*/checkpoints"))
    hint = f"; did you mean {str(inside[-1])!r}?" if inside else ""
    return f"{path} is not a workdir: it has no checkpoints{hint}"


def _to_tree(state: TrainState) -> Json:
    """A state as the plain tree that is stored: key as numbers, a checksum per entry."""
    tree = {**vars(state), "key": jax.random.key_data(state.key)}
    return {**tree, "checksums": checksums(tree)}


def _shapes(tree: Json) -> Json:
    """The shape of each array under its name."""
    return {name: list(x.shape) for name, x in ocp.tree.to_flat_dict(tree, sep="/").items()}


def _from_all_hosts(value: Json) -> list[Json]:
    """Every host's value, in host order, on every host."""
    if jax.process_count() == 1:
        return [value]
    text = np.frombuffer(json.dumps(value).encode(), np.uint8)
    size = int(np.max(multihost_utils.process_allgather(np.int32(text.size))))
    padded = np.full(size, ord(" "), np.uint8)
    padded[: text.size] = text
    return [json.loads(bytes(row)) for row in multihost_utils.process_allgather(padded)]
