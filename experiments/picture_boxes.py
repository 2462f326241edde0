"""Boxes that somebody else found, matched to pictures by their names."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from jaxtyping import Float

_PERSON = 1  # COCO's category id

BoxTable = Float[np.ndarray, "M 4"]


def read_boxes(
    path: Path, names: Sequence[str], *, min_score: float, most: int
) -> dict[str, BoxTable]:
    """Reads the boxes of pictures; pictures without an entry have none.

    The file is a list in COCO's results format, `{"image_id", "category_id", "bbox": [x, y, w, h],
    "score"}`, or an object `{picture: [[x0, y0, x1, y1], ...]}`. A picture is named by its path
    below the folder that was given, by its file name, by that without the ending, or, as in COCO,
    by the number that it is; "file_name" goes before "image_id".

    Args:
      path: JSON file.
      names: Of the pictures.
      min_score: Boxes with a lower score are left out; those without a score are not.
      most: So many of a picture's best boxes are kept.

    Returns:
      `(x0, y0, x1, y1)` in pixels of the upright picture, best first.

    Raises:
      ValueError: No file, not the format, or none of its pictures is among the names.
    """
    if not path.is_file():
        raise ValueError(f"no file of boxes {path}")
    try:
        content = json.loads(path.read_bytes())
    except ValueError as error:
        raise ValueError(f"{path}: not JSON: {error}") from None
    entries = list(_entries(content, path))
    aliases = _aliases(names)
    tables: dict[str, list[tuple[float, list[float]]]] = {name: [] for name in names}
    known = 0
    for picture, box, score in entries:
        name = aliases.get(picture)
        known += name is not None
        if name is not None and score >= min_score:
            tables[name].append((score, box))
    if entries and not known:
        raise ValueError(
            f"{path}: none of its pictures, such as {entries[0][0]!r}, is among those given, such "
            f"as {names[0]!r}"
        )
    best = {n: sorted(rows, key=lambda row: -row[0])[:most] for n, rows in tables.items()}
    return {
        n: np.array([b for _, b in rows], np.float32).reshape(-1, 4) for n, rows in best.items()
    }


def _aliases(names: Sequence[str]) -> dict[str | int, str]:
    """What may name a picture; what names two of them names none."""
    aliases: dict[str | int, str] = {}
    twice: set[str | int] = set()
    for name in names:
        stem = PurePosixPath(name).stem
        short: list[str | int] = [PurePosixPath(name).name, stem]
        if stem.isdecimal():
            short.append(int(stem))
        for alias in dict.fromkeys(short):
            twice |= {alias} & aliases.keys()
            aliases[alias] = name
    unique = {alias: name for alias, name in aliases.items() if alias not in twice}
    return unique | {name: name for name in names}


def _entries(content: Any, path: Path):
    """Picture, corners and score of each box of a person."""
    if isinstance(content, Mapping):
        for picture, boxes in content.items():
            try:
                table = np.asarray(boxes, np.float64).reshape(-1, 4) if len(boxes) else ()
                if not np.shape(boxes) == np.shape(table):
                    raise ValueError
            except (TypeError, ValueError):
                raise ValueError(f"{path}: {picture}: must be [[x0, y0, x1, y1], ...]") from None
            for i, box in enumerate(table):
                yield picture, _checked(box.tolist(), f"{path}: {picture}: box {i}"), np.inf
        return
    if not isinstance(content, list):
        raise ValueError(f"{path}: neither COCO's results format nor {{picture: boxes}}")
    for i, record in enumerate(content):
        try:
            if record.get("category_id", _PERSON) != _PERSON:
                continue
            picture = record["file_name"] if "file_name" in record else record["image_id"]
            x, y, w, h = map(float, record["bbox"])
            score = float(record.get("score", np.inf))
            hash(picture)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{path}: entry {i}: {error!r} in {record!s:.120}") from None
        if np.isnan(score):
            raise ValueError(f"{path}: entry {i}: the score is not a number")
        yield picture, _checked([x, y, x + w, y + h], f"{path}: entry {i}"), score


def _checked(box: list[float], where: str) -> list[float]:
    x0, y0, x1, y1 = box
    if not np.isfinite(box).all() or x1 <= x0 or y1 <= y0:
        raise ValueError(f"{where}: [{x0:g}, {y0:g}, {x1:g}, {y1:g}] is no box x0 < x1, y0 < y1")
    return box
