"""Writes what a training has learned: `g-rmi export {weights,program,onnx}`."""

import dataclasses
import io
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

import jax
import numpy as np
import tyro

from data_pipeline.images import Picture, decode, shrink
from experiments.parts import cli
from experiments.parts.inputs import find
from g_rmi import __version__
from g_rmi.config import flatten, from_dict, to_dict
from g_rmi.detector import DetectorConfig
from g_rmi.files import check_directory, check_file, write_whole
from g_rmi.inference.export import PLATFORMS, export_program
from g_rmi.inference.load import MODELS, SHIPPED, load_settings, load_task
from g_rmi.inference.onnx.people import to_onnx as people_to_onnx
from g_rmi.inference.onnx.quantise import to_int8
from g_rmi.inference.pipeline import PosePipeline
from g_rmi.inference.settings import Settings
from g_rmi.parts.config import PartsConfig
from g_rmi.pose.config import PoseConfig
from g_rmi.pose.onnx import to_onnx
from g_rmi.pose.task import PoseTask
from g_rmi.training.weights import read_config, write_weights

# The loader comes last: without it, an export was interrupted.
FILES = ("program.bin", "weights.npz", "about.json", "find_people.py")
LOADER = Path(__file__).parent / "parts" / "export_loader.py"
ONNX_LOADER = LOADER.with_name("onnx_loader.py")
CALIBRATION = 24  # Pictures at most.
CITY = Path(__file__).parent / "pictures" / "city.jpg"  # See `experiments.demo`.


@dataclasses.dataclass(frozen=True)
class WeightsArguments:
    """Writes a checkpoint as one file, without the optimiser: to share or to ship.

    The file can be used wherever a work directory can: in evaluate, predict, --init. The network's
    options below say how prediction differs from training.
    """

    workdir: Path  # Work directory of a training, or another weights file.
    out: Path  # The file, FILE.safetensors.
    checkpoint: str = "latest"  # "latest", "best" or a step; see evaluate.
    # Further work directories or weights files of the same network to average with, in equal parts.
    # The mean can be better than each if one began with another's weights (Wortsman et al., "Model
    # soups", 2022).
    average_with: tuple[Path, ...] = ()
    # Defaults for finding people, stored in the file.
    settings: Settings = Settings()
    # The network.
    model: Annotated[PoseConfig | DetectorConfig | PartsConfig, tyro.conf.arg(name="")] = (
        PoseConfig()
    )


@dataclasses.dataclass(frozen=True)
class ProgramArguments:
    """Exports the pipeline, image in, people out, as files that need none of this project's code.

    Writes program.bin (one jax.export file for CPU, CUDA and TPU), weights.npz, about.json (the
    keypoints' names, limbs, settings) and find_people.py, which loads them: `from find_people
    import find_people; find_people(image)`. Images may be landscape or portrait.
    """

    out: Path  # Where the files go: a new or empty directory, or that of an earlier export.
    # The detector's work directory or weights file. Default: the packaged weights.
    detector: Path | None = None
    # The same for the pose network, or for a bottom-up one, which needs no detector.
    pose: Path | None = None
    # Rows and columns of the largest image. Smaller ones are padded, which costs a little; the
    # loader shrinks larger ones by an integer factor.
    size: tuple[int, int] = (640, 640)
    pictures: int = 1  # Images per call, at most.
    # How people are found. Default: as stored in the pose network's weights.
    settings: Settings = Settings()

    def __post_init__(self):
        if self.pictures < 1:
            raise ValueError(f"--pictures {self.pictures}: at least 1")
        if min(self.size) < 1:
            raise ValueError(f"--size {self.size[0]} {self.size[1]}: at least 1 each")


@dataclasses.dataclass(frozen=True)
class OnnxArguments:
    """Exports the pipeline, image in, people out, for onnxruntime.

    Writes FILE.onnx and beside it FILE.py, which loads it with numpy and onnxruntime: `from FILE
    import find_people; find_people(image)`. Needs `pip install onnx onnxruntime`. Fails if the
    people in a test image are not those that jax finds.
    """

    out: Path  # The file, FILE.onnx.
    # The detector's work directory or weights file. Default: the packaged weights.
    detector: Path | None = None
    # The pose network's work directory or weights file. Default: the packaged weights.
    pose: Path | None = None
    # Write the pose network alone, crops to coarse maps, for any head. Needs `pip install jax2onnx
    # onnxruntime`.
    pose_only: bool = False
    # A folder of photographs, some dozens, of what is to be seen: the convolutions are computed in
    # eight bits, in ranges found on these.
    int8: Path | None = None
    # How people are found. Default: as stored in the pose network's weights.
    settings: Settings = Settings()


def averaged(variables: Any, others: Sequence[Path]) -> Any:
    """The mean of some weights and those of other trainings of the same network."""
    trees = [variables]
    for path in others:
        _, other = load_task(path)
        if jax.tree.map(np.shape, other) != jax.tree.map(np.shape, variables):
            raise ValueError(f"--average-with {path}: of another network")
        trees.append(other)
    return jax.tree.map(lambda *leaves: np.mean(leaves, axis=0, dtype=np.float32), *trees)


def export_weights(argv: Sequence[str]) -> None:
    """`export weights`; a ValueError if they do not fit the network asked for."""
    values: dict[str, Any] = {}
    defaults: dict[str, Any] = {"model": PoseConfig()}
    if workdir := cli.peek(argv, "workdir"):
        values = read_config(workdir)
        model = from_dict(MODELS[values.get("stage", "pose")], values["model"], "model.")
        defaults = {"settings": load_settings(workdir), "model": model}
    arguments = cli.arguments(
        WeightsArguments,
        argv,
        name="export weights",
        config=(tyro.conf.FlagConversionOff, tyro.conf.AvoidSubcommands),
        flat=False,
        **defaults,
    )
    check_file(arguments.out)
    task, variables = load_task(arguments.workdir, arguments.checkpoint)
    task = dataclasses.replace(task, config=arguments.model)  # type: ignore[bad-argument-type]
    wanted = jax.eval_shape(task.init, jax.random.key(0))
    if jax.tree.map(np.shape, wanted) != jax.tree.map(np.shape, variables):
        before, now = (dict(flatten(to_dict(m))) for m in (defaults["model"], arguments.model))
        changed = [f"{name} = {now[name]}" for name in now if now[name] != before.get(name)]
        raise ValueError(f"{', '.join(changed)}: the weights do not fit such a network")
    variables = averaged(variables, arguments.average_with)
    values |= {"model": to_dict(arguments.model), "settings": to_dict(arguments.settings)}
    write_weights(arguments.out, values, variables)
    size = arguments.out.stat().st_size / 1e6
    print(f"wrote {arguments.out}: {values.get('stage', 'pose')}, {size:.1f} MB")


def check_out(out: Path) -> None:
    """A ValueError if something is there but an earlier export."""
    if out.exists() and not out.is_dir():
        raise ValueError(f"--out {out}: is a file, not a directory")
    others = {path.name for path in out.glob("*")} - {*FILES, "__pycache__"}
    if others:
        raise ValueError(f"--out {out}: holds other files, such as {min(others)}; name a new one")


def whole_program(arguments: ProgramArguments, pipeline: PosePipeline) -> dict[str, bytes]:
    """The files of the program, by name; the last one loads it."""
    (height, width), skeleton = arguments.size, pipeline.pose.skeleton
    program, weights = export_program(
        pipeline, height=height, width=width, count=arguments.pictures
    )
    table = io.BytesIO()
    np.savez(table, **jax.device_get(weights))
    about = {
        "keypoints": skeleton.names,
        "limbs": skeleton.limbs,
        "largest_picture": arguments.size,
        "pictures": arguments.pictures,
        "platforms": PLATFORMS,
        "settings": to_dict(pipeline.settings),
        **({"detector": to_dict(pipeline.detector.config)} if pipeline.detector else {}),
        "pose": to_dict(pipeline.pose.config),
        "versions": {"g_rmi": __version__, "jax": jax.__version__},
    }
    return {
        "program.bin": bytes(program.serialize()),
        "weights.npz": table.getvalue(),
        "about.json": (json.dumps(about, indent=1) + "\n").encode(),
        "find_people.py": LOADER.read_bytes(),
    }


def export_whole(argv: Sequence[str]) -> None:
    """`export program`."""
    settings = load_settings(cli.peek(argv, "pose"))
    arguments = cli.arguments(ProgramArguments, argv, name="export program", settings=settings)
    out = arguments.out
    check_out(out)
    check_directory(out)
    pipeline = PosePipeline.load(arguments.detector, arguments.pose, settings=arguments.settings)
    files = whole_program(arguments, pipeline)
    out.mkdir(parents=True, exist_ok=True)
    for name in reversed(FILES):  # of an earlier export
        (out / name).unlink(missing_ok=True)
    for name in FILES:
        (out / name).write_bytes(files[name])
        note = f"; for {', '.join(PLATFORMS)}" if name == "program.bin" else ""
        print(f"{out / name}: {len(files[name]) / 1e6:.2f} MB{note}")


def photographs(folder: Path) -> Iterator[Picture]:
    """Up to `CALIBRATION` pictures of a folder; a ValueError if it has none."""
    found = find([str(folder)], leave_out=folder / "-")
    for source in found[:: -(-len(found) // CALIBRATION)]:
        yield shrink(picture := decode(source.read()), -(-max(picture.shape) // 1280))


def export_onnx(argv: Sequence[str]) -> None:
    """`export onnx`."""
    settings = load_settings(cli.peek(argv, "pose"))
    arguments = cli.arguments(OnnxArguments, argv, name="export onnx", settings=settings)
    if arguments.out.suffix != ".onnx":
        raise ValueError(f"--out {arguments.out}: must end in .onnx")
    if arguments.int8 and (arguments.pose_only or not arguments.int8.is_dir()):
        reason = "not with --pose-only" if arguments.pose_only else "no such folder"
        raise ValueError(f"--int8 {arguments.int8}: {reason}")
    check_file(arguments.out)
    if arguments.pose_only:
        task, variables = load_task(arguments.pose or SHIPPED["pose"], stage="pose")
        assert isinstance(task, PoseTask)
        data, worst = to_onnx(task, variables)
        note = f"differs from jax by at most {worst:.1e} on random crops"
    else:
        places = arguments.detector, arguments.pose
        pipeline = PosePipeline.load(*places, settings=arguments.settings)
        data, note = people_to_onnx(pipeline, decode(CITY.read_bytes()))
        if arguments.int8:
            data = to_int8(data, photographs(arguments.int8))
            note = f"int8; before, {note}"
    write_whole(arguments.out, data)
    print(f"{arguments.out}: {len(data) / 1e6:.2f} MB; {note}")
    if not arguments.pose_only:
        loader = arguments.out.with_suffix(".py")
        write_whole(loader, ONNX_LOADER.read_bytes())
        print(f"{loader}: `from {loader.stem} import find_people`")


VERBS = {
    "weights": (export_weights, "a training's weights as one small file"),
    "program": (export_whole, "pictures in, people out, as files that need only jax and numpy"),
    "onnx": (export_onnx, "the same as one ONNX file, or the pose network alone"),
}


def main(argv: Sequence[str]) -> None:
    """The program."""
    verb, *rest = argv or ["--help"]
    if verb in VERBS:
        return VERBS[verb][0](rest)
    if verb in ("-h", "--help"):
        print(f"usage: {cli.program('export')} {{{','.join(VERBS)}}} ... (each with --help)")
        for name, (_, what) in VERBS.items():
            print(f"  {name:<9}{what}")
        return None
    if "--onnx" in argv:
        raise ValueError("--onnx: a verb of its own now: export onnx --out FILE.onnx")
    print("note: `export` is called `export program` now", file=sys.stderr)
    return export_whole(argv)


if __name__ == "__main__":
    cli.run(main)
