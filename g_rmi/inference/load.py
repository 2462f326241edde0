"""Opens what a training left: its directory, or its weights file."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from g_rmi.config import from_dict, require
from g_rmi.detector import DetectorConfig
from g_rmi.detector.detector import Detector
from g_rmi.inference import settings
from g_rmi.inference.settings import Settings
from g_rmi.parts.config import PartsConfig
from g_rmi.parts.task import PartsTask
from g_rmi.pose.config import PoseConfig
from g_rmi.pose.task import PoseTask
from g_rmi.skeleton import COCO, Skeleton
from g_rmi.training.weights import SUFFIX, read_config, read_weights

# The weights that come with the package; README.md beside them says what they are.
_WEIGHTS = Path(__file__).parents[1] / "weights"
SHIPPED = {"detector": _WEIGHTS / "detector.safetensors", "pose": _WEIGHTS / "pose.safetensors"}

MODELS = {"detector": DetectorConfig, "pose": PoseConfig, "parts": PartsConfig}
# In the directory of a bottom-up training: its regressions, fitted after it.
PAIRS = "pairs.safetensors"
_NAMES = {"detector": "a detector", "pose": "a pose network", "parts": "a bottom-up network"}


def load_task(
    path: str | os.PathLike,
    checkpoint: str = "latest",
    *,
    stage: str | None = None,
    average: bool = True,
) -> tuple[PoseTask | Detector | PartsTask, Any]:
    """The task and the evaluation weights of a training: of its directory or weights file.

    Args:
      path: Of either.
      checkpoint: "latest", "best" or a step; see `g_rmi.training.checkpoint.Checkpoints.load`.
      stage: Which it must be, "detector" or "pose"; None takes either.
      average: The average of the weights if there is one; False for the last weights.

    Raises:
      ValueError: Neither of them, of the other stage, no such checkpoint, or its config is not one
        of this version.
    """
    if Path(path).suffix == SUFFIX and checkpoint == "latest":
        values, variables = read_weights(path)
    else:
        # Needs orbax, which takes most of a second to import.
        from g_rmi.training.checkpoint import load_variables

        values, variables = load_variables(Path(path), checkpoint, average=average)
    its = values.get("stage", "")
    require(its in MODELS, "stage", its, f"one of {tuple(MODELS)}")
    if stage not in (None, its):
        raise ValueError(f"{path} is {_NAMES[its]}; {_NAMES[str(stage)]} is needed")
    # Data and optimiser are not read: no network hangs on them.
    model = from_dict(MODELS[its], values["model"], "model.")
    if (pairs := Path(path) / PAIRS).is_file():
        variables = {**variables, **read_weights(pairs)[1]}
    return model.task(skeleton_of(values)), variables


def stage_of(path: str | os.PathLike) -> str:
    """Which stage a training's directory or weights file is of; errors as `read_config`'s."""
    return read_config(path).get("stage", "pose")


def skeleton_of(values: Mapping[str, Any]) -> Skeleton:
    """The keypoint set that stands beside a training's config; COCO's if none does."""
    return Skeleton.from_dict(values["skeleton"]) if "skeleton" in values else COCO


def load_settings(path: str | os.PathLike | None = None) -> Settings:
    """The settings that a weights file of a pose network was written with, else the defaults.

    None is the package's own file; the directory of a training has no settings.

    Raises:
      ValueError: The file cannot be read, or its settings are not of this version.
    """
    path = Path(path or SHIPPED["pose"])
    values = read_config(path).get("settings", {}) if path.is_file() else {}
    return settings.from_dict(values)
