"""Shows how a joint is found: `g-rmi explain PICTURE --joint left_wrist --out FILE`."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import cv2
import jax
import numpy as np
import tyro

from data_pipeline.images import cut, decode
from experiments import cli
from g_rmi.compile_cache import enable_compilation_cache
from g_rmi.config import nearest
from g_rmi.geometry import box_to_crop, pose_box
from g_rmi.inference.load import load_settings
from g_rmi.inference.pipeline import PosePipeline
from g_rmi.inference.settings import Settings
from g_rmi.ops.image import resize_align_corners
from g_rmi.pose.decode import oks_spread, vote_maps
from g_rmi.viz.votes import explain_joint


@dataclasses.dataclass(frozen=True)
class Arguments:
    """Draws what the pose network says about one joint of one person, and how the votes meet.

    Attributes:
      picture: A JPEG or PNG file.
      out: The drawing.
      joint: Which joint.
      box: x0 y0 x1 y1 of the person; the detector's best person without it.
      detector: Directory of the detector's training, or its weights file. Default: the detector
        shipped with the package.
      pose: The same of the pose network.
      settings: How people are looked for.
    """

    picture: Annotated[Path, tyro.conf.Positional]
    out: Path
    joint: str = "nose"
    box: tuple[float, float, float, float] | None = None
    detector: Path | None = None
    pose: Path | None = None
    settings: Settings = Settings()


def best_box(pipeline: PosePipeline, data: bytes, name: str) -> np.ndarray:
    """The box that the detector is surest of: poor joints are worth a look, too.

    Raises:
      ValueError: Nobody is found.
    """
    by_box = dataclasses.replace(pipeline.settings, ranking="box")
    people: Any = dataclasses.replace(pipeline, settings=by_box)(decode(data))
    if not len(people.boxes):
        raise ValueError(f"{name}: nobody is found there; say where with --box x0 y0 x1 y1")
    return people.boxes[0]


def main(argv: Sequence[str]) -> None:
    """The program."""
    missing: Any = tyro.MISSING
    default = Arguments(missing, missing, settings=load_settings(cli.peek(argv, "pose")))
    arguments = cli.arguments(Arguments, argv, name="explain", default=default)
    pipeline = PosePipeline.load(
        arguments.detector,
        arguments.pose,
        boxes_given=arguments.box is not None,
        settings=arguments.settings,
    )
    config, names = pipeline.pose.config, pipeline.pose.skeleton.names
    if arguments.joint not in names:
        raise ValueError(
            f"--joint {arguments.joint}: no such joint{nearest(arguments.joint, names)}"
        )
    enable_compilation_cache()
    data = arguments.picture.read_bytes()
    box = arguments.box or best_box(pipeline, data, str(arguments.picture))
    size = {"height": config.crop_height, "width": config.crop_width}
    window = pose_box(np.array([box]), aspect=config.aspect, scale=config.box_scale)[0]
    crop = cut(data, box_to_crop(window, **size), **size)
    maps = jax.jit(pipeline.pose.predict)(pipeline.variables["pose"], crop[None])
    k = slice(names.index(arguments.joint), names.index(arguments.joint) + 1)
    logits, offset = maps.heatmap[0, ..., k], maps.offset[0, ..., k, :]
    spread = None
    if (arguments.settings.decoding or config.decoding) == "hough_oks":
        spread = oks_spread(pipeline.pose.skeleton.sigmas, **size, box_scale=config.box_scale)[k]
    fused = vote_maps(logits, offset, **size, radius=config.radius, spread=spread)
    picture = explain_joint(
        crop,
        np.asarray(jax.nn.sigmoid(resize_align_corners(logits, **size)))[..., 0],
        np.asarray(resize_align_corners(offset[..., 0, :], **size)),
        np.asarray(fused)[..., 0],
        joint=arguments.joint.replace("_", " "),
    )
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    if not cv2.imwrite(str(arguments.out), picture[..., ::-1]):
        raise OSError(f"{arguments.out} could not be written")
    print(f"wrote {arguments.out}")


if __name__ == "__main__":
    cli.run(main)
