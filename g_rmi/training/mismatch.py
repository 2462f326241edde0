"""Whether a checkpoint belongs to the experiment that wants to continue it."""

import json
import pathlib
from collections.abc import Mapping
from typing import Any

from g_rmi.config import flatten

Json = dict[str, Any]

# Fields of an experiment that may change between a run and its continuation.
FREE_FIELDS = frozenset(
    {
        *("train.steps", "train.log_every", "train.evaluate_every", "train.checkpoint_every"),
        *("train.keep", "train.keep_best", "train.fsdp", "data.threads", "data.processes"),
    }
)
_NAMED = 8  # More differences are only counted.


class Mismatch(ValueError):
    """A checkpoint is sound, but belongs to another experiment."""


def check_same(
    workdir: pathlib.Path,
    what: str,
    saved: Json,
    wanted: Json,
    *,
    free: frozenset[str] = frozenset(),
    defaults: Mapping[str, Any] | None = None,
) -> None:
    """Checks that a run continues with what it was started with.

    Fields whose dotted names are in `free` may differ; `defaults` has the values of fields that are
    newer than the checkpoint. `what` differs, such as "another config", is for the message: a
    Mismatch of one line that names the fields that differ, with both values.
    """
    old = dict(flatten(saved))
    new, default = (dict(flatten(json.loads(json.dumps(v)))) for v in (wanted, defaults or {}))
    old |= {name: default[name] for name in (new.keys() & default.keys()) - old.keys()}
    different = [
        f"{name} was {_shown(old, name)}, is {_shown(new, name)}"
        for name in sorted((old.keys() | new.keys()) - free)
        if name not in old or name not in new or old[name] != new[name]
    ]
    if different:
        more = f"; and {len(different) - _NAMED} more" if len(different) > _NAMED else ""
        raise Mismatch(
            f"{workdir} was started with {what}: {'; '.join(different[:_NAMED])}{more} "
            "(go back to the first values, or choose another workdir)"
        )


def _shown(values: Json, name: str) -> str:
    return repr(values[name]) if name in values else "not there"
