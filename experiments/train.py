"""Trains a network: `python -m experiments.train --config NAME --workdir DIR [--data DIR]`."""

import contextlib
import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path

import jax

from data_pipeline.boxes import ground_truth_boxes
from data_pipeline.loader import PoseBatches, pose_batches
from experiments import cli, data
from experiments.evaluate import load_task, predict, score
from g_rmi.compile_cache import enable_compilation_cache
from g_rmi.config import PoseExperiment, to_dict
from g_rmi.evaluation.evaluator import Decoding
from g_rmi.pose.task import PoseTask
from g_rmi.training.loop import train
from g_rmi.types import PoseBatch


@dataclasses.dataclass(frozen=True)
class Arguments:
    """Trains the config's network; continues by itself if the work directory has a checkpoint.

    Attributes:
      config: Name of a file in experiments/configs; its fields are the options below.
      workdir: Gets checkpoints, metrics and config.json. Default: runs/CONFIG.
      data: Data directories: COCO's layout, or prepared by `tfds build`. Several are mixed. Without
        any, the embedded synthetic set is made and used.
      init: Work directory of another training whose weights to start from.
      pretrained: ImageNet weights of the ResNet, .safetensors with torchvision's or timm's names.
    """

    config: str = "pose_synthetic"
    workdir: Path | None = None
    data: tuple[Path, ...] = ()
    init: Path | None = None
    pretrained: Path | None = None
    experiment: PoseExperiment = PoseExperiment()


class Batches(Iterator):
    """The loader's batches as the task's typed ones."""

    def __init__(self, batches: PoseBatches):
        self._batches = batches
        self.get_state, self.set_state = batches.get_state, batches.set_state

    def __next__(self):
        """Record ids and a `PoseBatch`."""
        record_ids, arrays = next(self._batches)
        return record_ids, PoseBatch(**arrays)  # type: ignore[bad-argument-type]  # on the host yet


def initial_variables(arguments: Arguments, task: PoseTask) -> dict | None:
    """Weights to start from: another training's, ImageNet's, or None."""
    if arguments.init:
        _, variables = load_task(arguments.init)
        return variables
    if arguments.pretrained:
        from g_rmi.pretrained import load_resnet

        variables = jax.device_get(jax.jit(task.init)(jax.random.key(0)))
        trunk = load_resnet(arguments.pretrained, depth=task.config.depth)
        return {
            name: {**tree, "trunk": trunk[name]} if name in trunk else tree
            for name, tree in variables.items()
        }
    return None


def main(argv: Sequence[str]) -> None:
    """The program."""
    arguments = cli.parse(Arguments(), argv, prog="python -m experiments.train")
    experiment = arguments.experiment
    enable_compilation_cache()
    directories = data.directories(arguments.data)
    datasets = data.read_split(directories, "train")
    task = PoseTask(experiment.model)
    hosts = jax.process_count()
    batches = pose_batches(
        datasets,
        height=experiment.model.crop_height,
        width=experiment.model.crop_width,
        config=experiment.data,
        batch_size=experiment.train.batch_size // hosts,
        seed=experiment.train.seed,
        host=jax.process_index(),
        hosts=hosts,
    )
    validation = data.read_split(directories, "val")[0]
    boxes = ground_truth_boxes(validation)

    def evaluate(variables, step: int) -> dict[str, float]:
        del step
        people = predict(task, variables, validation, boxes, Decoding())
        return score(task, validation, boxes, people, Decoding()).metrics

    with contextlib.closing(batches):  # else Ctrl-C waits for all that is being read ahead
        train(
            task,
            experiment.train,
            experiment.optim,
            Batches(batches),
            workdir=arguments.workdir or Path("runs") / arguments.config,
            config_dict=to_dict(experiment),
            data_fingerprint=data.fingerprint(datasets),
            evaluate=evaluate,
            init_variables=initial_variables(arguments, task),
        )


if __name__ == "__main__":
    cli.run(main)
