"""Writes synthetic scenes as a data directory in COCO's layout, all of it or nothing."""

import dataclasses
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from jaxtyping import UInt8

from data_pipeline.synthetic.backdrop import photograph, photographs
from data_pipeline.synthetic.compose import scene
from g_rmi.geometry import from_xywh
from g_rmi.skeleton import COCO
from g_rmi.types import PERSON
from g_rmi.viz.draw import contact_sheet as draw_cells
from g_rmi.viz.draw import draw_people

# Raised with every change of what a seed draws, so that no old cache passes for a new data set.
VERSION = 3
DEFAULT_TRAIN, DEFAULT_VAL, DEFAULT_SIZE = 1500, 200, (256, 320)
_STAMP = "synthetic.json"
_SPLITS = ("train", "val")
_FEW = 24  # scenes up to which starting further processes costs more than it saves
People = list[dict]
"""The annotations of one picture."""


@dataclasses.dataclass(frozen=True)
class Recipe:
    """Everything that the content of a synthetic data directory depends on.

    `backgrounds` is a folder of photographs without people, `photographs` the digest of its files.
    """

    train_images: int = DEFAULT_TRAIN
    val_images: int = DEFAULT_VAL
    seed: int = 0
    size: tuple[int, int] = DEFAULT_SIZE
    version: int = VERSION
    backgrounds: str | None = None
    photographs: str | None = None

    def __post_init__(self):
        for name in ("train_images", "val_images", "seed"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} = {getattr(self, name)}: must be at least 0")
        if not 64 <= min(self.size) <= max(self.size) <= 8192:
            wanted = "height and width must be at least 64, at most 8192"
            raise ValueError(f"size = {self.size}: {wanted}")

    @property
    def values(self) -> dict:
        """As JSON values, without those that are None."""
        values = {k: v for k, v in dataclasses.asdict(self).items() if v is not None}
        return json.loads(json.dumps(values))

    @property
    def fingerprint(self) -> str:
        """Short hash of the recipe."""
        text = json.dumps(self.values, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    @property
    def items(self) -> list[tuple[str, int]]:
        """Split and number of every picture."""
        counts = zip(_SPLITS, (self.train_images, self.val_images))
        return [(split, i) for split, count in counts for i in range(count)]


def image_id(split: str, index: int) -> int:
    """COCO id of a picture, unique over both splits."""
    return index + 1 + (1_000_000 if split == "val" else 0)


def default_directory(**parameters: Any) -> Path:
    """Where the embedded data set of these parameters of `make` lives, below the user's cache."""
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "g_rmi" / f"synthetic-{Recipe(**parameters).fingerprint}"


def make(
    directory: str | os.PathLike,
    *,
    train_images: int = DEFAULT_TRAIN,
    val_images: int = DEFAULT_VAL,
    seed: int = 0,
    size: tuple[int, int] = DEFAULT_SIZE,
    backgrounds: str | os.PathLike | None = None,
    workers: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Makes a data directory of synthetic scenes, or returns the one that is already there.

    Everything is written into a temporary neighbour that takes the final name at the end: an
    interrupted run leaves no directory. Same parameters, same bytes, with any number of workers:
    processes, one per available core by default. The size is height and width. Photographs without
    people in the folder `backgrounds` stand behind the drawn ones; else that is drawn, too.
    `progress` is told how many pictures are done, and how many there are in all.

    Raises:
      FileExistsError: The directory holds something else, or a set made with other parameters.
      FileNotFoundError: No photographs in `backgrounds`.
      ValueError: A parameter is impossible.
    """
    directory = Path(directory)
    recipe = Recipe(train_images, val_images, seed, (int(size[0]), int(size[1])))
    if backgrounds is not None:
        folder = Path(backgrounds).resolve()
        recipe = dataclasses.replace(recipe, backgrounds=str(folder), photographs=_digest(folder))
    if _complete(directory, recipe):
        return directory
    directory.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{directory.name}.", dir=directory.parent))
    try:
        _write(temporary, recipe, workers or cores(), progress)
        temporary.chmod(0o755)
        try:
            if directory.exists():  # empty, or `_complete` would have raised
                directory.rmdir()
            temporary.rename(directory)
        except OSError:  # somebody else was faster
            if not _complete(directory, recipe):
                raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return directory


def _digest(folder: Path) -> str:
    """Of the names and contents of the photographs of a folder."""
    digest = hashlib.sha256()
    for file in photographs(folder):
        digest.update(file.name.encode() + b"\0" + hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()[:12]


def cores() -> int:
    """Cores that this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def _complete(directory: Path, recipe: Recipe) -> bool:
    """Whether the directory already holds this data set; raises if it holds another."""
    if not directory.exists() or (directory.is_dir() and not any(directory.iterdir())):
        return False
    stamp = directory / _STAMP
    if not stamp.is_file():
        raise FileExistsError(f"{directory} exists and is not a synthetic data set: choose another")
    found, wanted = json.loads(stamp.read_text()), recipe.values
    names = [k for k in {**wanted, **found} if found.get(k) != wanted.get(k)]
    if names:
        differ = ", ".join(f"{k} = {found.get(k)}" for k in names)
        others = ", ".join(str(wanted.get(k)) for k in names)
        raise FileExistsError(
            f"{directory} holds a synthetic data set with {differ} (wanted {others}): remove it or "
            "choose another directory"
        )
    return True


def _write(
    directory: Path, recipe: Recipe, workers: int, progress: Callable[[int, int], None] | None
) -> None:
    items = recipe.items
    for split in _SPLITS:
        (directory / f"{split}2017").mkdir()
    (directory / "annotations").mkdir()
    workers = 1 if len(items) <= _FEW else min(workers, len(items))
    if workers == 1:
        records = draw(directory, recipe, items)
    else:
        records = _draw_in_processes(directory, recipe, workers)
    found: dict[str, list[People]] = {split: [] for split in _SPLITS}
    for done, (people, (split, _)) in enumerate(zip(records, items), 1):
        found[split].append(people)
        if progress:
            progress(done, len(items))
    for split in _SPLITS:
        path = directory / "annotations" / f"person_keypoints_{split}2017.json"
        path.write_text(json.dumps(_coco(recipe, split, found[split]), separators=(",", ":")))
    (directory / _STAMP).write_text(json.dumps(recipe.values, indent=1) + "\n")


def draw(directory: Path, recipe: Recipe, items: list[tuple[str, int]]) -> Iterator[People]:
    """Draws some of the scenes, writes their pictures and yields their annotations."""
    for (split, index), (rng, picture, people) in zip(items, _scenes(recipe, items)):
        quality = int(rng.integers(60, 96))
        path = directory / f"{split}2017" / f"{image_id(split, index):012d}.jpg"
        if not cv2.imwrite(str(path), picture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality]):
            raise OSError(f"{path} could not be written")
        yield people


def _scenes(recipe: Recipe, items: list[tuple[str, int]]) -> Iterator:
    """What is left of each scene's random numbers, its picture, its annotations."""
    height, width = recipe.size
    files = photographs(Path(recipe.backgrounds)) if recipe.backgrounds else []
    for split, index in items:
        rng = np.random.default_rng([recipe.seed, _SPLITS.index(split), index])
        background = photograph(rng, files, height, width)
        yield rng, *scene(rng, height=height, width=width, background=background)


def contact_sheet(
    *,
    seed: int = 0,
    size: tuple[int, int],
    backgrounds: Path | None = None,
    rows: int = 6,
    columns: int = 6,
    labels: bool = True,
) -> UInt8[np.ndarray, "H W 3"]:
    """The first training scenes of `make` as one picture; every second one has its labels drawn."""
    recipe = Recipe(seed=seed, size=size, backgrounds=str(backgrounds) if backgrounds else None)
    cells = []
    for i, (_, picture, people) in enumerate(_scenes(recipe, recipe.items[: rows * columns])):
        cells.append(_labelled(picture, people) if labels and i % 2 else picture)
    return draw_cells(cells, columns=columns, cell=size)


def _labelled(picture: UInt8[np.ndarray, "h w 3"], people: People) -> UInt8[np.ndarray, "h w 3"]:
    """Boxes and skeletons on a copy; joints that nobody can see are hollow."""
    joints = np.reshape([a["keypoints"] for a in people], (-1, len(COCO), 3))
    boxes = from_xywh(np.reshape([a["bbox"] for a in people], (-1, 4)))
    shown = {"boxes": boxes - [0, 0, 1, 1], "visibility": joints[..., 2].astype(int)}
    return draw_people(picture, joints[..., :2], np.ones(joints.shape[:2]), **shown)


def _draw_in_processes(directory: Path, recipe: Recipe, workers: int) -> Iterator[People]:
    """`draw` in fresh interpreters that import nothing but this package.

    Plain subprocesses and not `multiprocessing`: that would fork a process in which jax runs
    threads, or import the caller's main module, and jax with it, once more in every worker.
    """
    package_root = str(Path(__file__).resolve().parents[2])
    path = os.pathsep.join([package_root, *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = {**os.environ, "PYTHONPATH": path, "OPENBLAS_NUM_THREADS": "1"}
    command = [sys.executable, "-c", "from data_pipeline.synthetic.dataset import work; work()"]
    processes: list[Any] = []
    try:
        for worker in range(workers):
            job = json.dumps([str(directory.resolve()), recipe.values, worker, workers])
            process = subprocess.Popen(
                [*command, job], stdout=subprocess.PIPE, text=True, env=environment
            )
            processes.append(process)
        for i in range(len(recipe.items)):
            line = processes[i % workers].stdout.readline()
            if not line:
                raise RuntimeError("a process that draws scenes failed; its error is above")
            yield json.loads(line)
    finally:
        for process in processes:
            process.kill()
            process.wait()
            process.stdout.close()


def work() -> None:
    """One of several processes: a JSON line for each picture that is its."""
    cv2.setNumThreads(1)
    directory, values, worker, workers = json.loads(sys.argv[1])
    recipe = Recipe(**values | {"size": tuple(values["size"])})
    for people in draw(Path(directory), recipe, recipe.items[worker::workers]):
        print(json.dumps(people, separators=(",", ":")), flush=True)


def _coco(recipe: Recipe, split: str, found: list[People]) -> dict:
    height, width = recipe.size
    images, annotations = [], []
    for index, people in enumerate(found):
        number = image_id(split, index)
        name = f"{number:012d}.jpg"
        images.append({"id": number, "file_name": name, "height": height, "width": width})
        for rank, annotation in enumerate(people):
            annotations.append({"id": 100 * number + rank, "image_id": number, **annotation})
    category = {
        "supercategory": "person",
        "id": PERSON,
        "name": "person",
        "keypoints": list(COCO.names),
        "skeleton": [[a + 1, b + 1] for a, b in COCO.limbs],
    }
    return {
        "info": {"description": "synthetic people", **recipe.values},
        "licenses": [],
        "images": images,
        "annotations": annotations,
        "categories": [category],
    }
