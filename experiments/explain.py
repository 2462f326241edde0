"""Shows how a joint is found: `g-rmi explain PICTURE --joint left_wrist --out FILE`."""

import dataclasses
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import cv2
import jax
import numpy as np
import tyro

from data_pipeline.images import ImageError, cut, decode
from experiments.parts import cli
from g_rmi.compile_cache import enable_compilation_cache
from g_rmi.config import nearest
from g_rmi.files import check_file, write_whole
from g_rmi.geometry import box_to_crop, misfit, pose_box
from g_rmi.inference.load import load_settings
from g_rmi.inference.pipeline import PosePipeline, check_boxes
from g_rmi.inference.settings import Settings
from g_rmi.pose.fields import resize
from g_rmi.pose.heads.head import Maps
from g_rmi.pose.task import PoseTask
from g_rmi.viz.votes import explain_joint


@dataclasses.dataclass(frozen=True)
class Arguments:
    """Draws what the pose network says about one joint of one person, and how the votes meet."""

    picture: Annotated[Path, tyro.conf.Positional]  # The image.
    out: Path  # The drawing.
    joint: str = "nose"  # Name of the joint.
    # The person's box, x0 y0 x1 y1. Default: the detector's best one.
    box: tuple[float, float, float, float] | None = None
    # The detector's work directory or weights file. Default: the packaged weights.
    detector: Path | None = None
    pose: Path | None = None  # The same for the pose network.
    settings: Settings = Settings()  # How people are found.


def best_box(pipeline: PosePipeline, data: bytes, name: str) -> np.ndarray:
    """The box that the detector is surest of: poor joints are worth a look, too."""
    by_box = dataclasses.replace(pipeline.settings, ranking="box")
    people: Any = dataclasses.replace(pipeline, settings=by_box)(decode(data))
    if not len(people.boxes):
        raise ValueError(f"{name}: nobody is found there; say where with --box x0 y0 x1 y1")
    return people.boxes[0]


def titled(task: PoseTask, maps: Maps, k: int, decoding: str) -> dict[str, np.ndarray]:
    """What the maps of one crop say about joint k, and what its score is where, by title."""
    head, drawn = task.config.head, {}
    for field in head.fields:
        values = resize(maps[field.name][:, :, k], task.grid)  # of pairs, to all other joints
        title = f"{field.name}: {field.meaning}" if field.meaning else field.name
        drawn[title] = jax.nn.sigmoid(values) if field.logits else values
    evidence = jax.jit(partial(head.evidence, how=task.reading(decoding)))
    drawn["score: where is it?"] = evidence(maps)[..., k]
    return {title: jax.device_get(values) for title, values in drawn.items()}  # in this order


def main(argv: Sequence[str]) -> None:
    """The program."""
    settings = load_settings(cli.peek(argv, "pose"))
    arguments = cli.arguments(Arguments, argv, name="explain", settings=settings)
    if not cv2.haveImageWriter(str(arguments.out)):
        raise ValueError(f"--out {arguments.out}: no picture's ending; such as {arguments.out}.png")
    check_file(arguments.out)
    data = arguments.picture.read_bytes()
    try:
        rows, columns, _ = decode(data).shape
    except ImageError as error:
        raise ImageError(f"{arguments.picture}: {error}") from None
    if arguments.box is not None:
        check_boxes([arguments.box])
        if reason := misfit(arguments.box, (columns, rows)):
            raise ValueError(f"--box {arguments.box}: {reason}")
    pipeline = PosePipeline.load(
        arguments.detector,
        arguments.pose,
        boxes_given=arguments.box is not None,
        settings=arguments.settings,
    )
    task = pipeline.pose
    config, names = task.config, task.skeleton.names
    decoding = task.decoding(arguments.settings.decoding)
    if arguments.joint not in names:
        raise ValueError(
            f"--joint {arguments.joint}: no such joint{nearest(arguments.joint, names)}"
        )
    enable_compilation_cache()
    box = arguments.box or best_box(pipeline, data, str(arguments.picture))
    size = task.grid._asdict()
    window = pose_box(np.array([box]), aspect=config.aspect, scale=config.box_scale)[0]
    crop = cut(data, box_to_crop(window, **size), **size)
    maps = jax.jit(task.predict)(pipeline.variables["pose"], crop[None])
    poses = jax.device_get(jax.jit(partial(task.decode, decoding=decoding))(maps))
    k = names.index(arguments.joint)
    score = float(poses.keypoint_scores[0, k])
    picture = explain_joint(
        crop,
        titled(task, {name: values[0] for name, values in maps.items()}, k, decoding),
        joint=arguments.joint.replace("_", " "),
        found=poses.keypoints[0, k],
        score=score,
    )
    whole, encoded = cv2.imencode(arguments.out.suffix, picture[..., ::-1])
    if not whole:
        raise OSError(f"{arguments.out} could not be written")
    write_whole(arguments.out, encoded.tobytes())
    scores = f"{arguments.joint} scores {score:.2f}, the person {float(poses.scores[0]):.2f}"
    print(f"wrote {arguments.out}: {scores}")


if __name__ == "__main__":
    cli.run(main)
