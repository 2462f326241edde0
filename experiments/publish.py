"""Writes a training's weights as one small file: `g-rmi publish --workdir DIR --out FILE`."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import tyro

from experiments import cli
from g_rmi.config import experiment_from_dict, to_dict
from g_rmi.training.checkpoint import load_variables
from g_rmi.training.weights import write_weights


@dataclasses.dataclass(frozen=True)
class Arguments:
    """Writes a checkpoint as one file, without the optimiser: to hand on, or to ship.

    The file stands for the directory wherever weights are asked for: evaluate, predict, --init.

    Attributes:
      workdir: Directory of the training.
      out: The file, FILE.safetensors.
      checkpoint: "latest", "best" or a step; see evaluate.
    """

    workdir: Path
    out: Path
    checkpoint: str = "latest"


def main(argv: Sequence[str]) -> None:
    """The program."""
    arguments = tyro.cli(
        Arguments,
        args=argv,
        prog=cli.program("publish"),
        description=str(Arguments.__doc__).partition("Attributes:")[0],
    )
    values, variables = load_variables(arguments.workdir, arguments.checkpoint)
    experiment = experiment_from_dict(values)
    own = {name: values[name] for name in ("skeleton",) if name in values}
    write_weights(arguments.out, to_dict(experiment) | own, variables)
    size = arguments.out.stat().st_size / 1e6
    print(f"wrote {arguments.out}: {experiment.stage}, {size:.1f} MB")


if __name__ == "__main__":
    cli.run(main)
