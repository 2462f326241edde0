"""What `train` and the trainings of a sweep do."""

import contextlib
import dataclasses
import shlex
from pathlib import Path
from typing import Any

import jax
import numpy as np

from data_pipeline.loader import sample_joints
from data_pipeline.parts_examples import canvas_joints
from data_pipeline.schema import Dataset
from experiments.parts import cli, data
from experiments.parts.experiment import Experiment, Options, PartsExperiment, PoseExperiment
from experiments.parts.pairs import fit_pairs, write_pairs
from experiments.parts.stages import STAGES
from g_rmi.compile_cache import enable_compilation_cache
from g_rmi.config import default_values, to_dict
from g_rmi.detector.detector import Detector
from g_rmi.inference.load import load_task
from g_rmi.parts.task import PartsTask
from g_rmi.pose.heads.head import Fitted, tells_visibility
from g_rmi.pose.task import PoseTask
from g_rmi.pose.transfer import transfer
from g_rmi.skeleton import COCO
from g_rmi.training.hosts import Hosts, is_first
from g_rmi.training.loop import train
from g_rmi.training.tracking import wandb_run
from g_rmi.training.weights import is_training


@dataclasses.dataclass(frozen=True)
class Arguments:
    """Trains the config's network; continues if the work directory has a checkpoint."""

    # One of the configs above, or a Python file of yours with a get_config(); "list" prints them.
    # Its fields are the options below.
    config: str = "pose_synthetic"
    workdir: Path | None = None  # Gets checkpoints, metrics and config.json. Default: runs/CONFIG.
    # Data directories: COCO's layout, or packed by `data_pipeline.prepare`. Several are mixed.
    # Without any, the synthetic set is made and used.
    data: tuple[Path, ...] = ()
    # Categories of COCO annotation files to find, each a class with the joints that it declares:
    # `--category person horse`; "all" that declare joints. Default: people, or the only one.
    category: tuple[str, ...] = ()
    # Work directory or weights file of another training to start from: as wide as this network, as
    # deep or shallower. From another stage the backbone is taken, from another head the pyramid as
    # well; from other joints all but the joints that have other names here.
    init: Path | None = None
    # Weights of the backbone alone to start from: ImageNet's, .safetensors with the names of
    # `g_rmi.pretrained`'s table, or those of another training with the same backbone (work
    # directory or weights file).
    pretrained: Path | None = None
    # "auto" detects srun and mpirun; "all" joins the hosts of a Kubernetes or TPU job, each of
    # which runs this command; "one" works alone.
    hosts: Hosts = "auto"
    dry_run: bool = False  # Print config, size, memory, data and devices; train nothing.
    # Steps to trace with JAX's profiler, after the first two, into WORKDIR/profile.
    profile: int = 0
    # Send all numbers to this project of Weights & Biases, too (`pip install 'g-rmi[wandb]'`).
    wandb: str | None = None
    experiment: Options = PoseExperiment()

    def __post_init__(self):
        if self.profile < 0:
            raise ValueError(f"--profile {self.profile}: must be 0 or more")

    @property
    def directory(self) -> Path:
        """The work directory, given or by the config's name."""
        return self.workdir or Path("runs") / Path(self.config).stem


def read_data(arguments: Arguments) -> tuple[list[Dataset], list[Dataset]]:
    """The training sets, and the validation set if there is one.

    Raises:
      ValueError: Bottom-up networks are not for several classes.
      DataError: See `experiments.parts.data`.
    """
    stage, classes = arguments.experiment.stage, arguments.category
    if classes and stage == "parts":
        raise ValueError(f"--category {' '.join(classes)}: not for a bottom-up network")
    directories, chosen = data.directories(arguments.data), {"categories": classes}
    datasets = data.read_split(directories, "train", **chosen)
    validation = data.read_split(directories, "val", required=False, **chosen)
    data.check_all(datasets, validation, poses=STAGES[stage].keypoints)
    return datasets, validation


def fitted(experiment: Experiment, datasets: list[Dataset]) -> dict:
    """Variables that are statistics of the training set; none for most networks."""
    if isinstance(experiment, PartsExperiment):
        joints = [canvas_joints(d, experiment.model.canvas) for d in datasets]
        return experiment.model.head.statistics(*map(np.concatenate, zip(*joints)))
    if not isinstance(experiment, PoseExperiment):
        return {}
    model, how = experiment.model, {"config": experiment.data, "seed": experiment.train.seed}
    if not isinstance(model.head, Fitted):
        return {}
    return model.head.statistics(*sample_joints(datasets, **model.grid._asdict(), **how))


def initial_variables(
    arguments: Arguments, task: PoseTask | Detector | PartsTask, statistics: dict
) -> dict | None:
    """Weights to start from: another training's, its backbone alone, ImageNet's, or None.

    With `statistics` of the training set, unless those of the other training come with its weights.
    """
    other, variables = None, {}
    if arguments.init:
        other, variables = load_task(arguments.init)
        if _alike(other, task):
            return {**statistics, **variables}
        backbone = _backbone(other, variables, task, f"--init {arguments.init}")
    elif arguments.pretrained and is_training(arguments.pretrained):
        given = load_task(arguments.pretrained)
        backbone = _backbone(*given, task, f"--pretrained {arguments.pretrained}")
    elif arguments.pretrained:
        from g_rmi.pretrained import load_backbone

        backbone = load_backbone(task.config.backbone, arguments.pretrained)
    else:
        return statistics or None
    fresh = jax.device_get(jax.jit(task.init)(jax.random.key(0)))
    begun = task.with_backbone({**fresh, **statistics}, backbone)
    maps = PoseTask, PartsTask
    if not isinstance(other, maps) or not isinstance(task, maps):
        return begun
    begun, joints = transfer(variables, other, task, begun)
    if is_first():
        new = ", ".join(name for name in task.skeleton.names if name not in joints) or "none"
        known = f"joints by name: {', '.join(joints)}; new: {new}" if joints else "the head is new"
        print(f"from {arguments.init}: the backbone; {known}", flush=True)
    return begun


def _alike(other: Any, task: Any) -> bool:
    """Whether two networks have the same variables: of one kind, with the same joints."""
    kinds = [getattr(t.config, "head", t.config).kind for t in (other, task)]
    return (
        type(other) is type(task)
        and type(other.config.backbone) is type(task.config.backbone)
        and kinds[0] == kinds[1]
        and getattr(other, "skeleton", None) == getattr(task, "skeleton", None)
        and getattr(other, "classes", None) == getattr(task, "classes", None)
    )


def _backbone(
    other: PoseTask | Detector | PartsTask,
    variables: dict,
    task: PoseTask | Detector | PartsTask,
    option: str,
) -> dict:
    """The backbone of another training; a ValueError if this one's is another."""
    theirs, ours = to_dict(other.config.backbone), to_dict(task.config.backbone)
    for field in ours:
        if theirs.get(field) != ours[field]:
            what = "backbone" if field == "kind" else field
            raise ValueError(f"{option}: {what} is {theirs.get(field)} there, {ours[field]} here")
    return other.backbone(variables)


def run(arguments: Arguments) -> None:
    """Trains, or continues a training, up to the config's number of steps."""
    experiment = arguments.experiment
    enable_compilation_cache()
    values = to_dict(experiment)
    track = wandb_run(arguments.wandb, arguments.directory, values) if arguments.wandb else None
    datasets, validation = read_data(arguments)
    stage = STAGES[experiment.stage]
    skeleton = datasets[0].skeleton
    task = experiment.model.task(skeleton)
    if isinstance(task, PoseTask) and tells_visibility(task.config.head):
        data.check_visibility(datasets)
    if skeleton.classes or (stage.keypoints and skeleton != COCO):
        values["skeleton"] = skeleton.to_dict()
    batches = stage.batches(experiment, datasets)
    # What identifies the training data in a checkpoint: names and digests, not paths.
    sets = {f"{i} {d.directory.name} {d.split}": d.fingerprint for i, d in enumerate(datasets)}
    if not validation and is_first():
        print("no data directory has a val split: training without evaluation")
    with contextlib.closing(batches):  # else Ctrl-C waits for all that is being read ahead
        train(
            task,
            experiment.train,
            experiment.optim,
            batches,
            workdir=arguments.directory,
            config_dict=values,
            config_defaults=default_values(experiment),
            data_fingerprint=sets,
            evaluate=stage.validate(task, validation[0]) if validation else None,
            best_by=stage.best_by if experiment.train.keep_best else None,
            init_variables=initial_variables(arguments, task, fitted(experiment, datasets)),
            track=track,
            profile=arguments.profile,
        )
    if isinstance(task, PartsTask):
        print("fitting the regressions of pairs in up to 4,000 training pictures ...", flush=True)
        _, variables = load_task(arguments.directory)
        model = fit_pairs(task, variables, datasets, seed=experiment.train.seed)
        if is_first():
            write_pairs(arguments.directory, values, model)
    if is_first():
        print(f"wrote {arguments.directory}{_next(arguments) if validation else ''}")


def _next(arguments: Arguments) -> str:
    """The end of a line: the command that evaluates the training."""
    given = ["--data", *map(str, arguments.data)] if arguments.data else []
    words = ["--workdir", str(arguments.directory), *given]
    return f"; next: {cli.program('evaluate')} {shlex.join(words)}"
