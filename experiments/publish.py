"""Writes a training's weights as one small file: `g-rmi publish --workdir DIR --out FILE`."""

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
import tyro

from experiments import cli
from g_rmi.config import Experiment, experiment_from_dict, to_dict
from g_rmi.pipeline import make_task
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
      average_with: Further trainings, or weights files, of the same network, whose weights are
        averaged with these in equal parts. It can be better than each if one began with another's
        weights (Wortsman et al., "Model soups", 2022).
      change: Fields of the model that prediction shall use with another value than training did,
        such as 'canvas=[320,440]' proposals=100 or box_scale=1.1.
    """

    workdir: Path
    out: Path
    checkpoint: str = "latest"
    average_with: tuple[Path, ...] = ()
    change: tuple[str, ...] = ()


def averaged(variables: Any, others: Sequence[Path]) -> Any:
    """The mean of some weights and those of other trainings.

    Raises:
      ValueError: One is of another network; names it.
    """
    trees = [variables]
    for path in others:
        _, other = load_variables(path)
        if jax.tree.map(np.shape, other) != jax.tree.map(np.shape, variables):
            raise ValueError(f"--average-with {path}: of another network")
        trees.append(other)
    return jax.tree.map(lambda *leaves: np.mean(leaves, axis=0, dtype=np.float32), *trees)


def changed(experiment: Experiment, changes: Sequence[str], variables: Any) -> Experiment:
    """The experiment with fields of its model replaced, if the weights still fit.

    Args:
      experiment: Of the training.
      changes: NAME=VALUE; a value that is not JSON is a string.
      variables: The weights.

    Raises:
      ValueError: Not of that form, no such field or value, or it asks for other weights.
    """
    values = to_dict(experiment)
    for change in changes:
        name, equals, text = change.partition("=")
        if not equals:
            raise ValueError(f"--change {change}: must be NAME=VALUE, such as box_scale=1.1")
        try:
            values["model"][name] = json.loads(text)
        except json.JSONDecodeError:
            values["model"][name] = text
    experiment = experiment_from_dict(values)
    needed = jax.eval_shape(make_task(experiment).init, jax.random.key(0))
    if jax.tree.map(np.shape, needed) != jax.tree.map(np.shape, variables):
        raise ValueError(f"--change {' '.join(changes)}: the weights do not fit such a network")
    return experiment


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
    if arguments.change:
        experiment = changed(experiment, arguments.change, variables)
    if arguments.average_with:
        variables = averaged(variables, arguments.average_with)
    own = {name: values[name] for name in ("skeleton",) if name in values}
    write_weights(arguments.out, to_dict(experiment) | own, variables)
    size = arguments.out.stat().st_size / 1e6
    print(f"wrote {arguments.out}: {experiment.stage}, {size:.1f} MB")


if __name__ == "__main__":
    cli.run(main)
