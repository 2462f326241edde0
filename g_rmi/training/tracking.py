"""Weights & Biases as another place for the metrics; an optional dependency."""

import contextlib
import pathlib
import secrets
from collections.abc import Callable, Mapping
from typing import Any, Protocol, runtime_checkable


@runtime_checkable
class Run(Protocol):
    """What a `Writer` needs of an experiment tracker's run."""

    def log(self, data: dict[str, Any]) -> Any:
        """Takes named numbers, "step" among them."""
        ...

    def finish(self) -> Any:
        """Sends what has not been sent."""
        ...


Start = Callable[[], Run]


def wandb_run(project: str, workdir: pathlib.Path, config: Mapping[str, Any]) -> Start:
    """What begins a run of that project, or continues the one whose id is in `workdir/wandb_id`.

    Raises:
      ValueError: Weights & Biases is not installed.
    """
    try:
        import wandb
    except ImportError:
        raise ValueError("--wandb: not installed; `pip install 'g-rmi[wandb]'`") from None

    def start() -> Run:
        file = workdir / "wandb_id"
        with contextlib.suppress(FileExistsError), file.open("x") as new:
            new.write(secrets.token_hex(4))
        run = wandb.init(
            project=project,
            id=file.read_text(),
            resume="allow",
            name=workdir.resolve().name,
            dir=str(workdir),
            config=dict(config),
        )
        # Its own counter only rises, and a training goes on from a checkpoint before the last line.
        run.define_metric("*", step_metric="step")
        return run

    return start
