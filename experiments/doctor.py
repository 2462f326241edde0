"""Says what this machine offers and whether the data is sound: `python -m experiments.doctor`."""

import dataclasses
import os
import platform
import shutil
from collections.abc import Iterator, Sequence
from importlib import metadata
from pathlib import Path

import jax
import jax.numpy as jnp

from data_pipeline.readers import read
from data_pipeline.schema import SPLITS, DataError, MissingDataError
from experiments.parts import cli
from g_rmi.compile_cache import enable_compilation_cache
from g_rmi.viz.table import show

PACKAGES = (
    *("jax", "jaxlib", "flax", "optax", "orbax-checkpoint"),
    *("tensorflow-datasets", "grain", "pycocotools", "numpy", "opencv-python-headless"),
)
LOW_DISK = 5 * 2**30


@dataclasses.dataclass(frozen=True)
class Arguments:
    """Shows versions, devices, memory, compile cache and free disk, and checks data."""

    data: tuple[Path, ...] = ()  # Data directories to check.


def gigabytes(size: float) -> str:
    """Bytes as GiB."""
    return f"{size / 2**30:.1f} GiB"


def machine() -> Iterator[tuple[str, str, bool]]:
    """Rows of (what, finding, sound) about the machine."""
    yield "Python", f"{platform.python_version()} on {platform.platform()}", True
    for name in PACKAGES:
        try:
            yield name, metadata.version(name), True
        except metadata.PackageNotFoundError:
            yield name, "missing: run `make setup`", False
    memory = gigabytes(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    yield "cores, memory", f"{os.cpu_count()} cores, {memory}", True
    for device in jax.local_devices():
        limit = (device.memory_stats() or {}).get("bytes_limit")
        memory = f", {gigabytes(limit)}" if limit else ""
        yield f"device {device.id}", f"{device.platform}: {device.device_kind}{memory}", True
    # A product whose value is known: a broken driver fails or lies here, not an hour later.
    product = float(jax.jit(lambda x: (x @ x).sum())(jnp.ones((256, 256))))
    right = product == 256**3
    finding = "a known product is right" if right else f"{256**3} comes out as {product:.0f}"
    yield "computes", finding, right


def storage() -> Iterator[tuple[str, str, bool]]:
    """Rows about the compile cache and the disk."""
    cache = enable_compilation_cache()
    if cache:
        sizes = [f.stat().st_size for f in cache.rglob("*") if f.is_file()]
        yield "compile cache", f"{cache}: {len(sizes)} files, {sum(sizes) / 2**20:.0f} MiB", True
    else:
        yield "compile cache", "off: its directory cannot be made", False
    free = shutil.disk_usage(Path.cwd()).free
    short = "" if free > LOW_DISK else f": less than {gigabytes(LOW_DISK)}"
    yield "free disk here", f"{gigabytes(free)}{short}", not short


def data_directory(directory: Path) -> Iterator[tuple[str, str, bool]]:
    """Rows about a data directory; `python -m data_pipeline.check` looks closer."""
    found = False
    for split in SPLITS:
        try:
            dataset = read(directory, split)
            if len(dataset.images):
                dataset.source.read(0)
        except MissingDataError as error:
            yield f"data, {split}", str(error), found  # Not every set has a val split.
            continue
        except (DataError, OSError) as error:
            yield f"data, {split}", str(error), False
            continue
        found = True
        count = f"{len(dataset.images)} pictures, {len(dataset.people)} people"
        labelled = int((dataset.people.num_keypoints > 0).sum())
        sound = bool(dataset.people.has_box.any())
        yield f"data, {split}", f"{directory}: {count}, {labelled} with keypoints", sound
    if found:
        yield "data, closer", f"python -m data_pipeline.check {directory}", True


def main(argv: Sequence[str]) -> int:
    """The program; exit status 1 if something is not sound."""
    arguments = cli.arguments(Arguments, argv, name="doctor")
    rows = [*machine(), *storage()]
    for directory in arguments.data:
        rows += data_directory(directory)
    cells = ((what, "ok" if sound else "LOOK", finding) for what, finding, sound in rows)
    show(("what", "state", "finding"), cells, fold=True)
    return 0 if all(sound for *_, sound in rows) else 1


if __name__ == "__main__":
    cli.run(main)
