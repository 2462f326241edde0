"""Shows how joints and people are found: `g-rmi explain PICTURE --joint left_wrist --out FILE`."""

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
from g_rmi.geometry import box_to_crop, fit_canvas, misfit, pose_box
from g_rmi.inference.load import load_settings
from g_rmi.inference.pipeline import PosePipeline, check_boxes
from g_rmi.inference.settings import Settings
from g_rmi.parts.decode import people, solve
from g_rmi.parts.task import PartsTask
from g_rmi.pose.fields import resize
from g_rmi.pose.heads.head import Maps
from g_rmi.pose.task import PoseTask
from g_rmi.viz.partition import explain_partition
from g_rmi.viz.votes import explain_joint


@dataclasses.dataclass(frozen=True)
class Arguments:
    """Draws how one joint of one person is found, or how people are found bottom-up."""

    picture: Annotated[Path, tyro.conf.Positional]  # The image.
    out: Path  # The drawing.
    joint: str | None = None  # Name of the joint; the nose, if none is named.
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
    enable_compilation_cache()
    if isinstance(pipeline.pose, PartsTask):
        picture, said = everybody(pipeline.pose, pipeline.variables["pose"], data, arguments)
    else:
        picture, said = one_joint(pipeline, pipeline.pose, data, arguments)
    whole, encoded = cv2.imencode(arguments.out.suffix, picture[..., ::-1])
    if not whole:
        raise OSError(f"{arguments.out} could not be written")
    write_whole(arguments.out, encoded.tobytes())
    print(f"wrote {arguments.out}: {said}")


def one_joint(
    pipeline: PosePipeline, task: PoseTask, data: bytes, arguments: Arguments
) -> tuple[np.ndarray, str]:
    """A joint of one person, top-down: the picture, and its scores in words."""
    config, names, joint = task.config, task.skeleton.names, arguments.joint or "nose"
    decoding = task.decoding(arguments.settings.decoding)
    if joint not in names:
        raise ValueError(f"--joint {joint}: no such joint{nearest(joint, names)}")
    box = arguments.box or best_box(pipeline, data, str(arguments.picture))
    size = task.grid._asdict()
    window = pose_box(np.array([box]), aspect=config.aspect, scale=config.box_scale)[0]
    crop = cut(data, box_to_crop(window, **size), **size)
    maps = jax.jit(task.predict)(pipeline.variables["pose"], crop[None])
    poses = jax.device_get(jax.jit(partial(task.decode, decoding=decoding))(maps))
    k = names.index(joint)
    score = float(poses.keypoint_scores[0, k])
    picture = explain_joint(
        crop,
        titled(task, {name: values[0] for name, values in maps.items()}, k, decoding),
        joint=joint.replace("_", " "),
        found=poses.keypoints[0, k],
        score=score,
    )
    return picture, f"{joint} scores {score:.2f}, the person {float(poses.scores[0]):.2f}"


def everybody(
    task: PartsTask, variables: dict, data: bytes, arguments: Arguments
) -> tuple[np.ndarray, str]:
    """Everybody in the picture, bottom-up: the picture, and a count in words."""
    given = {"--box": arguments.box, "--joint": arguments.joint}
    for option in (name for name, value in given.items() if value):
        raise ValueError(
            f"{option}: of no use with --pose {arguments.pose}, which looks at everybody"
        )
    solver: Any = task.decoding(arguments.settings.decoding)
    decoding = dataclasses.replace(task.config.decoding, solver=solver)
    rows, columns, _ = decode(data).shape
    fit = fit_canvas(rows, columns, canvas=task.config.canvas)
    (height, width), image = fit.size, np.zeros((*fit.canvas, 3), np.uint8)
    part = cut(data, fit.affine, height=height, width=width, repeat_edge=True)
    image[:height, :width] = part

    @jax.jit
    def run(variables, image, size):
        found = jax.tree.map(lambda x: x[0], task.problems(variables, image[None], size[None]))
        labels = solve(found, task.skeleton, decoding=decoding)
        return found, labels, *people(found, labels, decoding=decoding)

    found, labels, poses, joints = jax.device_get(
        run(variables, image, np.array(fit.size, np.int32))
    )
    there, persons = found.candidates.valid.ravel(), joints.any(axis=1)
    picture = explain_partition(
        part,
        found.candidates.points.reshape(-1, 2)[there],
        (1 / (1 + np.exp(-found.candidates.logits.ravel())))[there],
        found.pairwise[np.ix_(there, there)],
        labels[there],
        poses.keypoints[persons],
        np.where(joints, poses.keypoint_scores, 0)[persons],
        skeleton=task.skeleton,
    )
    return picture, f"{persons.sum()} people of {there.sum()} candidates"


if __name__ == "__main__":
    cli.run(main)
