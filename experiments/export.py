"""Exports the program: `python -m experiments.export --out DIR [--detector DIR --pose DIR]`."""

import dataclasses
import io
import json
from collections.abc import Sequence
from pathlib import Path

import jax
import numpy as np
import tyro

from experiments import cli
from g_rmi import __version__
from g_rmi.evaluation.evaluator import Decoding
from g_rmi.export import PLATFORMS, export_program
from g_rmi.find_people import DEFAULTS, Options
from g_rmi.pipeline import PosePipeline
from g_rmi.pose.onnx import to_onnx

# The loader comes last: without it, an export was interrupted.
FILES = ("program.bin", "weights.npz", "about.json", "pose.onnx", "find_people.py")
LOADER = Path(__file__).with_name("export_loader.py")


@dataclasses.dataclass(frozen=True)
class Arguments:
    """Exports pictures in, people out as files that need none of this project's code.

    Writes program.bin (one jax.export artefact for CPU, CUDA and TPU), weights.npz, about.json (the
    keypoints' names, limbs, options) and find_people.py, which loads them: `from find_people import
    find_people; find_people(image)`. Pictures may lie or stand.

    Attributes:
      out: Where the files go: a new or empty directory, or that of an earlier export.
      detector: Directory of the detector's training, or its weights file; the one that comes with
        the package without it.
      pose: The same of the pose network.
      size: Rows and columns of the largest picture. Smaller ones are padded, which costs a little.
      pictures: Pictures of a call.
      onnx: Also write the pose network alone as pose.onnx (pip install jax2onnx onnxruntime).
      min_box_score: Boxes that score lower are not looked into.
      max_people: Most people of a picture.
      chunk: People who go through the pose network together.
      decoding: How maps become people.
    """

    out: Path
    detector: Path | None = None
    pose: Path | None = None
    size: tuple[int, int] = (640, 640)
    pictures: int = 1
    onnx: bool = False
    min_box_score: float = 0.3
    max_people: int = DEFAULTS.people
    chunk: int = DEFAULTS.chunk
    decoding: Decoding = Decoding()

    def __post_init__(self):
        for name in ("pictures", "max_people", "chunk"):
            if getattr(self, name) < 1:
                raise ValueError(f"--{name.replace('_', '-')} {getattr(self, name)}: at least 1")
        if min(self.size) < 1:
            raise ValueError(f"--size {self.size[0]} {self.size[1]}: at least 1 each")


def check_out(out: Path) -> None:
    """Makes sure that nothing is there but an earlier export.

    Raises:
      ValueError: Something is.
    """
    if out.exists() and not out.is_dir():
        raise ValueError(f"--out {out}: is a file, not a directory")
    others = {path.name for path in out.glob("*")} - {*FILES, "__pycache__"}
    if others:
        raise ValueError(f"--out {out}: holds other files, such as {min(others)}; name a new one")


def whole_program(arguments: Arguments, pipeline: PosePipeline) -> dict[str, bytes]:
    """The files of the program, by name."""
    height, width = arguments.size
    program, weights = export_program(
        pipeline, height=height, width=width, count=arguments.pictures
    )
    table = io.BytesIO()
    np.savez(table, **jax.device_get(weights))
    return {
        "program.bin": bytes(program.serialize()),
        "weights.npz": table.getvalue(),
        "about.json": (json.dumps(about(arguments, pipeline), indent=1) + "\n").encode(),
        "find_people.py": LOADER.read_bytes(),
    }


def about(arguments: Arguments, pipeline: PosePipeline) -> dict:
    """What users of the program want to know about it."""
    assert pipeline.detector is not None  # which is there to be exported
    skeleton = pipeline.pose.skeleton
    return {
        "keypoints": skeleton.names,
        "limbs": skeleton.limbs,
        "largest_picture": arguments.size,
        "pictures": arguments.pictures,
        "platforms": PLATFORMS,
        "options": dataclasses.asdict(pipeline.options),
        "detector": dataclasses.asdict(pipeline.detector.config),
        "pose": dataclasses.asdict(pipeline.pose.config),
        "versions": {"g_rmi": __version__, "jax": jax.__version__},
    }


def main(argv: Sequence[str]) -> None:
    """The program."""
    arguments = tyro.cli(
        Arguments,
        args=argv,
        prog=cli.program("export"),
        description=str(Arguments.__doc__).partition("Attributes:")[0],
        config=(tyro.conf.OmitArgPrefixes,),
    )
    out = arguments.out
    check_out(out)
    options = Options(
        people=arguments.max_people,
        min_box_score=arguments.min_box_score,
        chunk=arguments.chunk,
        decoding=arguments.decoding,
    )
    pipeline = PosePipeline.load(arguments.detector, arguments.pose, options=options)
    files = whole_program(arguments, pipeline)
    notes = {"program.bin": f"; for {', '.join(PLATFORMS)}"}
    if arguments.onnx:
        files["pose.onnx"], worst = to_onnx(pipeline.pose, pipeline.variables[1])
        notes["pose.onnx"] = f"; differs from jax by at most {worst:.1e} on random crops"
    out.mkdir(parents=True, exist_ok=True)
    for name in reversed(FILES):  # of an earlier export
        (out / name).unlink(missing_ok=True)
    for name in FILES:
        if name in files:
            (out / name).write_bytes(files[name])
            print(f"{out / name}: {len(files[name]) / 1e6:.2f} MB{notes.get(name, '')}")


if __name__ == "__main__":
    cli.run(main)
