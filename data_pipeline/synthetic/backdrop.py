"""Backgrounds without people: rooms, streets, fields, water, abstract clutter; or photographs."""

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import Float

from data_pipeline.synthetic.body import cloth_colour, skin_colour
from data_pipeline.synthetic.render import TEXELS, Number, textures

Picture = Float[np.ndarray, "h w 3"]


def _noise(rng: np.random.Generator, height: int, width: int, cell: Number) -> np.ndarray:
    """Smooth noise in [-1, 1] with features of about `cell` pixels."""
    shape = (max(2, round(height / cell) + 1), max(2, round(width / cell) + 1))
    grid = rng.uniform(-1, 1, shape).astype(np.float32)
    return cv2.resize(grid, (width, height), interpolation=cv2.INTER_CUBIC)


def _fractal(rng: np.random.Generator, height: int, width: int, cell: Number) -> np.ndarray:
    """Noise of four sizes; the coarse ones are added up at a quarter of the resolution."""
    rows, columns = height // 4 + 1, width // 4 + 1
    coarse = _noise(rng, rows, columns, max(cell / 4, 1.5))
    coarse += 0.6 * _noise(rng, rows, columns, max(cell / 8, 1.5))
    coarse += 0.36 * _noise(rng, rows, columns, max(cell / 20, 1.5))
    fine = rng.uniform(-0.3, 0.3, (height // 2 + 1, width // 2 + 1)).astype(np.float32)
    return cv2.resize(coarse, (width, height)) + cv2.resize(fine, (width, height))


_WALLS = (
    (222, 214, 198), (236, 236, 232), (188, 186, 182), (158, 134, 106), (120, 84, 56),
    (94, 100, 108), (176, 190, 196), (206, 184, 148), (140, 150, 132), (70, 66, 64),
    (168, 96, 76), (112, 128, 150),
)  # fmt: skip
_GROUNDS = (
    (92, 118, 58), (128, 124, 120), (196, 176, 138), (60, 100, 122), (226, 230, 236), (120, 90, 66),
)  # fmt: skip


def _rgb(rng: np.random.Generator, low: Number = 20, high: Number = 235) -> np.ndarray:
    """A muted colour of buildings and furniture; one in six is strong."""
    if rng.random() < 0.17:
        return rng.uniform(low, high, 3).astype(np.float32)
    base = np.array(_WALLS[rng.integers(len(_WALLS))]) * rng.uniform(0.45, 1.1)
    return (base + rng.normal(0, 8, 3)).clip(low, high).astype(np.float32)


def _pattern(rng: np.random.Generator, region: np.ndarray, contrast: Number) -> None:
    """Puts a texture of the cloth tiles (bricks, boards, prints, leaves) on part of a picture."""
    height, width = region.shape[:2]
    if height < 3 or width < 3:
        return
    bank, folds, _ = textures()
    tile = folds if rng.random() < 0.4 else bank[rng.integers(len(bank))]
    tile = tile.reshape(TEXELS, TEXELS)
    tile = tile if rng.random() < 0.5 else tile.T
    zoom = np.exp(rng.uniform(np.log(0.4), np.log(3.0)))
    corner = np.array([[0, 0], [width, 0], [width, height], [0, height]], np.float32)
    source = corner / np.float32(zoom) + rng.uniform(0, TEXELS, 2).astype(np.float32)
    if rng.random() < 0.5:  # seen at an angle: a floor, a wall that recedes
        source[:2] += (source[:2] - source[:2].mean(0)) * np.float32(rng.uniform(0.2, 2.5))
    to_tile = cv2.getPerspectiveTransform(corner, source)
    picture = cv2.warpPerspective(
        tile, to_tile, (width, height), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_WRAP,
    )  # fmt: skip
    region += (picture.astype(np.float32) - 128)[..., None] * np.float32(contrast / 128)


def _gradient(top: np.ndarray, bottom: np.ndarray, height: int, width: int) -> Picture:
    t = np.linspace(0, 1, height, dtype=np.float32)[:, None, None]
    rows = np.asarray(top * (1 - t) + bottom * t, np.float32)
    return np.broadcast_to(rows, (height, width, 3)).copy()


def _speckle(rng: np.random.Generator, region: np.ndarray, cell: Number, strength: Number) -> None:
    height, width = region.shape[:2]
    if height and width:
        region += strength * _fractal(rng, height, width, cell)[..., None]


def _box(picture: Picture, x: Number, y: Number, w: Number, h: Number, rgb: np.ndarray) -> None:
    cv2.rectangle(picture, (int(x), int(y)), (int(x + w), int(y + h)), rgb.tolist(), -1)


def _line(picture: Picture, start: np.ndarray, end: np.ndarray, rgb: list, *how: int) -> None:
    cv2.line(picture, start.astype(int).tolist(), end.astype(int).tolist(), rgb, *how)


def _inside(picture: Picture, x: Number, y: Number, w: Number, h: Number) -> np.ndarray:
    """The part of the picture that `_box` covers; a view."""
    top, bottom, left, right = (max(int(edge), 0) for edge in (y, y + h, x, x + w))
    return picture[top:bottom, left:right]


def _windows(rng: np.random.Generator, picture: Picture, x: int, y: int, w: int, h: int) -> None:
    rgb, step_x, step_y = _rgb(rng), rng.integers(7, 26), rng.integers(9, 30)
    fill_x, fill_y = rng.uniform(0.3, 0.8, 2)
    for top in range(y + 3, y + h - step_y // 2, step_y):
        for left in range(x + 3, x + w - step_x // 2, step_x):
            _box(picture, left, top, fill_x * step_x, fill_y * step_y, rgb + rng.normal(0, 12))


def _tree(rng: np.random.Generator, picture: Picture, x: float, base: float, size: float) -> None:
    trunk = np.array([84, 62, 44], np.float32) * rng.uniform(0.5, 1.3)
    foot, top, thick = (int(x), int(base)), (int(x), int(base - size)), max(1, int(size / 12))
    cv2.line(picture, foot, top, trunk.tolist(), thick)
    green = np.array([60, 100, 44], np.float32) * rng.uniform(0.5, 1.4) + rng.normal(0, 12, 3)
    for _ in range(14):
        at = rng.normal((x, base - 0.9 * size), 0.22 * size)
        rgb = (green * rng.uniform(0.7, 1.3)).clip(5, 250)
        radius = int(size * rng.uniform(0.08, 0.2)) + 1
        cv2.circle(picture, at.astype(int).tolist(), radius, rgb.tolist(), -1)


def _outdoors(rng: np.random.Generator, height: int, width: int, horizon: int) -> Picture:
    sky = np.array([150, 180, 215], np.float32) * rng.uniform(0.5, 1.15)
    picture = _gradient(sky + rng.normal(0, 14, 3), sky * 1.15 + 10, height, width)
    _speckle(rng, picture[:horizon], width / 3, rng.uniform(2, 14))
    ground = np.array(_GROUNDS[rng.integers(len(_GROUNDS))], np.float32) * rng.uniform(0.6, 1.15)
    picture[horizon:] = _gradient(ground * 0.9, ground * 1.08, height - horizon, width)
    _speckle(rng, picture[horizon:], rng.uniform(3, 20), rng.uniform(2, 11))
    _pattern(rng, picture[horizon:], rng.uniform(0, 30))
    if rng.random() < 0.55:  # buildings
        x = int(rng.uniform(-30, 10))
        while x < width:
            w, h = int(rng.uniform(0.1, 0.4) * width), int(rng.uniform(0.1, 1.1) * max(horizon, 20))
            _box(picture, x, horizon - h, w, h + rng.uniform(0, 4), _rgb(rng, 50, 210))
            _pattern(rng, picture[max(horizon - h, 0) : horizon, max(x, 0) : x + w], 10)
            _windows(rng, picture, x, horizon - h, w, h)
            x += w + int(rng.exponential(12))
    else:  # hills, hedges
        for _ in range(rng.integers(1, 4)):
            ridge = horizon - 0.2 * height * rng.random()
            ridge = ridge - 0.06 * height * _noise(rng, 2, width, width / 6)[0]
            points = np.stack([np.arange(width), ridge], 1)
            corners = np.concatenate([points, [[width, horizon + 2], [0, horizon + 2]]])
            rgb = np.array([70, 96, 70], np.float32) * rng.uniform(0.4, 1.4) + rng.normal(0, 10, 3)
            cv2.fillPoly(picture, [corners.astype(np.int32)], rgb.clip(5, 250).tolist())
    for _ in range(rng.integers(0, 6)):
        x, base = rng.uniform(0, width), horizon + rng.uniform(-2, 14)
        _tree(rng, picture, x, base, rng.uniform(0.1, 0.6) * height)
    return picture


def _indoors(rng: np.random.Generator, height: int, width: int, horizon: int) -> Picture:
    wall = _rgb(rng, 60, 230)
    picture = _gradient(wall * rng.uniform(0.8, 1.1), wall * rng.uniform(0.7, 1.0), height, width)
    edge = min(height - 2, horizon + int(rng.uniform(0.05, 0.3) * height))
    floor = _rgb(rng, 40, 190)
    picture[edge:] = _gradient(floor * 0.85, floor * 1.1, height - edge, width)
    if rng.random() < 0.5:
        _pattern(rng, picture[:edge], rng.uniform(4, 40))
    if rng.random() < 0.4:
        _pattern(rng, picture[edge:], rng.uniform(4, 50))
    elif rng.random() < 0.6:  # boards or tiles that run to the vanishing point
        centre = rng.uniform(0.2, 0.8) * width
        for x in np.arange(-2 * width, 3 * width, rng.uniform(14, 60)):
            cut = (edge - horizon) / max(height - horizon, 1)
            start = (int(x + (centre - x) * (1 - cut)), edge)
            cv2.line(picture, start, (int(x), height), (floor * 0.7).tolist(), 1)
    for _ in range(rng.integers(2, 8)):  # pictures, windows, doors, shelves
        w, h = rng.uniform(0.05, 0.3, 2) * (width, height)
        x, y = rng.uniform(-0.1, 1.0) * width, rng.uniform(-0.1, 0.6) * edge
        _box(picture, x - 2, y - 2, w + 4, h + 4, _rgb(rng))
        _box(picture, x, y, w, h, _rgb(rng, 60, 250))
        _pattern(rng, _inside(picture, x, y, w, h), rng.uniform(5, 70))
        if rng.random() < 0.3:
            _windows(rng, picture, int(x), int(y), int(w), int(h))
    for _ in range(rng.integers(0, 6)):  # furniture
        w, h = rng.uniform(0.08, 0.35) * width, rng.uniform(0.06, 0.3) * height
        x, base = rng.uniform(-0.1, 1.0) * width, edge + rng.uniform(0, 0.25) * height
        rgb = _rgb(rng, 20, 180)
        thick = h * rng.uniform(0.2, 0.9)
        _box(picture, x, base - h, w, thick, rgb)
        _pattern(rng, _inside(picture, x, base - h, w, thick), rng.uniform(3, 30))
        for leg in (0.02, 0.94):
            _box(picture, x + leg * w, base - h, 0.04 * w + 1, h, rgb * 0.7)
    _speckle(rng, picture, rng.uniform(20, 120), rng.uniform(1, 9))
    return picture


def _abstract(rng: np.random.Generator, height: int, width: int) -> Picture:
    picture = _gradient(_rgb(rng), _rgb(rng), height, width)
    tint = rng.normal(0, 1, 3).astype(np.float32)
    picture += _fractal(rng, height, width, rng.uniform(20, 160))[..., None] * (22 + 5 * tint)
    _pattern(rng, picture, rng.uniform(0, 60))
    for _ in range(rng.integers(4, 26)):
        rgb, centre = _rgb(rng).tolist(), rng.uniform(0, 1, 2) * (width, height)
        size = np.exp(rng.uniform(np.log(6), np.log(0.3 * width)))
        kind = rng.integers(4)
        if kind == 0:
            corners = centre + rng.normal(0, size, (rng.integers(3, 6), 2))
            cv2.fillPoly(picture, [corners.astype(np.int32)], rgb)
        elif kind == 1:
            axes = (int(size), int(size * rng.uniform(0.2, 1)))
            angle = rng.uniform(0, 180)
            cv2.ellipse(picture, centre.astype(int).tolist(), axes, angle, 0, 360, rgb, -1)
        elif kind == 2:
            ends = centre, centre + rng.normal(0, 2 * size, 2)
            _line(picture, *ends, rgb, int(rng.integers(1, 10)))
        else:
            x, y = centre
            _box(picture, x, y, size, size * rng.uniform(0.3, 2), np.array(rgb))
    return picture


def _decoys(rng: np.random.Generator, picture: Picture) -> None:
    """Jointed sticks in the colours of limbs: colour and thickness alone do not give one away."""
    height, width = picture.shape[:2]
    for _ in range(rng.poisson(1.2)):
        rgb = np.array(skin_colour(rng) if rng.random() < 0.4 else cloth_colour(rng))
        thick = np.exp(rng.uniform(np.log(2), np.log(22)))
        at, angle = rng.uniform(0, 1, 2) * (width, height), rng.uniform(0, 2 * np.pi)
        for _ in range(rng.integers(1, 4)):
            end = at + thick * rng.uniform(2.5, 6) * np.array([np.cos(angle), np.sin(angle)])
            for share, light in ((1.0, 0.65), (0.65, 0.9), (0.3, 1.08)):
                wide = max(1, int(thick * share))
                _line(picture, at, end, (rgb * light).tolist(), wide, cv2.LINE_AA)
            at, angle, thick = end, angle + rng.normal(0, 0.9), max(2, 0.8 * thick)


def backdrop(rng: np.random.Generator, height: int, width: int, horizon: float) -> Picture:
    """A background without people, RGB, about 0 to 255; `horizon` is the row of the eye level."""
    row = int(np.clip(horizon, 2, height - 3))
    kind = rng.random()
    if kind < 0.42:
        picture = _outdoors(rng, height, width, row)
    elif kind < 0.82:
        picture = _indoors(rng, height, width, row)
    else:
        picture = _abstract(rng, height, width)
    _decoys(rng, picture)
    if rng.random() < 0.35:  # out of focus
        picture = cv2.GaussianBlur(picture, (0, 0), rng.uniform(0.8, 4.0) * width / 320)
    if rng.random() < 0.7:
        _speckle(rng, picture, rng.uniform(8, 60), rng.uniform(1, 7))
    return picture


def photographs(folder: Path) -> list[Path]:
    """The JPEG and PNG files of a folder; a FileNotFoundError if there are none."""
    files = sorted(p for p in folder.glob("*") if p.suffix.lower() in (".jpg", ".jpeg", ".png"))
    if not files:
        raise FileNotFoundError(f"{folder}: no folder with JPEG or PNG files")
    return files


def photograph(
    rng: np.random.Generator, files: Sequence[Path], height: int, width: int
) -> Picture | None:
    """A part of one of the photographs, half of its sides or more, mirrored or not; RGB, 0 to 255.

    None, without a random number drawn, if there are no files. A ValueError names a file that
    cannot be read.
    """
    if not files:
        return None
    file = files[int(rng.integers(len(files)))]
    picture = cv2.imread(str(file), cv2.IMREAD_COLOR_RGB)
    if picture is None:
        raise ValueError(f"{file}: cannot be read as a picture")
    rows, columns = picture.shape[:2]
    scale = rng.uniform(0.5, 1.0) * min(rows / height, columns / width)
    y, x = rng.uniform(0, 1, 2) * (rows - scale * height, columns - scale * width)
    to_picture = np.array([[scale, 0, x], [0, scale, y]])
    if rng.random() < 0.5:
        picture = picture[:, ::-1]
    if scale > 1:  # so that no pixel is skipped
        picture = cv2.GaussianBlur(picture, (0, 0), 0.4 * scale)
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    part = cv2.warpAffine(
        picture, to_picture, (width, height), flags=flags, borderMode=cv2.BORDER_REPLICATE
    )
    return part.astype(np.float32)
