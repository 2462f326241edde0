"""A small z-buffer: swept ellipsoids and flat polygons with cloth textures, shaded at the end.

Pictures are drawn at twice their size and averaged down. Points are (x, y) in those doubled pixels
and a depth z in metres that grows away from the camera. Every material belongs to one owner (a
person, or `OBJECT`), so the buffer of materials is also the id-buffer that masks come from.
"""

import dataclasses
import functools
import math

import cv2
import numpy as np
from jaxtyping import Float, Int, UInt8

OVERSAMPLE = 2
_BAND = 24_000  # samples drawn at a time: their arrays stay in the cache
OBJECT = 0  # owner of everything that is not a person
_BITS = 7
TEXELS = 1 << _BITS
Number = float | int
Colour = tuple[Number, ...]  # three of them
_LAST = TEXELS - 1
_TO_CAMERA = np.array([0.0, 0.0, -1.0])
_RIGHT = np.array([1.0, 0.0, 0.0])


@dataclasses.dataclass(frozen=True, slots=True)
class Sweep:
    """An ellipsoid whose centre moves from `start` to `end` while its size goes from r0 to r1."""

    start: tuple[float, float, float]  # (x, y, depth) of the first centre
    end: tuple[float, float, float]  # the same of the last
    radii: tuple[Number, Number]  # sizes at the two ends: metres, or multiples of `axes`
    scale: float  # pixels per metre
    material: int  # index into the canvas's materials
    # semi-axes as columns, metres, camera frame; None for a ball of radius 1 m
    axes: np.ndarray | None = None
    bulge: float = 0.0  # added size half-way, in the unit of `radii`
    # direction of texture's right, camera frame
    lateral: np.ndarray = dataclasses.field(default_factory=lambda: _RIGHT)
    # direction in which the middle of the texture's front faces
    front: np.ndarray = dataclasses.field(default_factory=lambda: _TO_CAMERA)
    beyond: int = -1  # material where the sweep is past `cut`, thinner by `step`
    cut: float = 2.0  # share of the sweep at which the material changes
    step: float = 0.0  # loss of size past `cut`
    # texture coordinate along the sweep at its two ends, in texture lengths
    span: tuple[Number, Number] = (0.0, 1.0)


@dataclasses.dataclass(frozen=True)
class Material:
    """Two colours that a texture tile mixes, and how the surface takes light."""

    owner: int  # person number, from 1, or `OBJECT`
    low: Colour  # RGB where the tile is 0
    high: Colour  # RGB where the tile is 1
    tile: int = 0  # index of the texture tile
    folds: float = 0.0  # depth of the cloth folds, 0 to 1


def _noise(rng: np.random.Generator, cells: int) -> Float[np.ndarray, "t t"]:
    """Smooth noise in [0, 1] that wraps around."""
    grid = rng.random((cells, cells)).astype(np.float32)
    grid = np.pad(grid, 2, mode="wrap")
    size = TEXELS * (cells + 4) // cells
    big = cv2.resize(grid, (size, size), interpolation=cv2.INTER_CUBIC)
    cut = (size - TEXELS) // 2
    return np.clip(big[cut : cut + TEXELS, cut : cut + TEXELS], 0, 1)


def _patterns(rng: np.random.Generator) -> list[np.ndarray]:
    """All-over cloth patterns; rows run around the body, columns along it."""
    v, u = np.meshgrid(np.arange(TEXELS), np.arange(TEXELS), indexing="ij")
    tiles: list[np.ndarray] = [0.15 * _noise(rng, 32) + 0.1 * _noise(rng, 64)]
    for period in (4, 8, 16, 32):
        columns, rows = u % period < period // 2, v % period < period // 2
        tiles += [columns, v % period < period // 4, 0.5 * columns + 0.5 * rows]
    dots = ((u % 16) - 8) ** 2 + ((v % 16) - 8) ** 2 < 14
    tiles += [(u // 8 + v // 8) % 2, dots, 0.4 * ((u + v) % 4 < 2) + 0.6 * _noise(rng, 8)]
    for cells in (4, 8, 16, 32):
        noise = _noise(rng, cells)
        tiles += [noise, noise > 0.55]
    return tiles


def _decals(rng: np.random.Generator) -> list[np.ndarray]:
    """Patterns of a torso, with the middle of the chest at row 1/4 and of the back at 3/4."""
    v, u = np.meshgrid(np.arange(TEXELS) / TEXELS, np.arange(TEXELS) / TEXELS, indexing="ij")
    front, back = np.abs(v - 0.25), np.abs(v - 0.75)
    text = _noise(rng, 32) > 0.5
    return [
        front < 0.06,  # open jacket
        (front < 0.035) | ((front < 0.10) & (u > 0.86)),
        (front < 0.018) & (u > 0.1),  # tie
        (front < 0.006) | ((front < 0.012) & (u % 0.12 < 0.03)),  # buttons
        (front < 0.09) & (np.abs(u - 0.68) < 0.10) & text,  # print
        (front < 0.11) & (np.abs(u - 0.60) < 0.05) & text,
        (back < 0.08) & (np.abs(u - 0.65) < 0.16) & text,  # number
        u > 0.62,
        u < 0.35,
        np.abs(u - 0.55) < 0.07,
        (front > 0.12) & (back > 0.12),  # side panels
        np.abs((front + 0.15) - 0.3 * u) < 0.025,  # straps
    ]


@functools.cache
def textures() -> tuple[UInt8[np.ndarray, "T n"], UInt8[np.ndarray, " n"], int]:
    """The tiles (flattened), the folds, and the index of the first torso tile; always the same."""
    rng = np.random.default_rng(20170)
    patterns, decals = _patterns(rng), _decals(rng)
    bank = np.stack(patterns + decals).reshape(-1, TEXELS * TEXELS)
    folds = 0.55 * _noise(rng, 8) + 0.3 * _noise(rng, 16) + 0.15 * _noise(rng, 32)
    folds = (folds - folds.min()) / np.ptp(folds)
    tiles = (255 * np.clip(bank, 0, 1)).astype(np.uint8)
    return tiles, (255 * folds).astype(np.uint8).ravel(), len(patterns)


class Canvas:
    """Depth, material, texture coordinate and light of every sample of a picture."""

    def __init__(self, height: int, width: int, light: Float[np.ndarray, "3"], ambient: float):
        shape = (OVERSAMPLE * height, OVERSAMPLE * width)
        # All materials drawn so far; index 0 is the empty background.
        self.materials = [Material(OBJECT, (0, 0, 0), (0, 0, 0))]
        self.depth = np.full(shape, np.inf, np.float32)  # metres; infinite where nothing is
        self._code = np.zeros(shape, np.int32)
        self._light_level = np.zeros(shape, np.float32)
        self._light, self._ambient = light / np.linalg.norm(light), ambient

    def add(self, material: Material) -> int:
        """Registers a material and returns its index."""
        self.materials.append(material)
        return len(self.materials) - 1

    def owners(self) -> Int[np.ndarray, "h w"]:
        """The id-buffer of the final picture: the person at each pixel's centre, or `OBJECT`."""
        table = np.array([m.owner for m in self.materials], np.int32)
        return table[self._code[1::OVERSAMPLE, 1::OVERSAMPLE] >> (2 * _BITS)]

    def surface(self) -> Float[np.ndarray, "h w"]:
        """The depth of what `owners` names."""
        return self.depth[1::OVERSAMPLE, 1::OVERSAMPLE]

    def sweep(self, s: Sweep) -> None:
        """Draws a swept ellipsoid where it is in front of what is there."""
        height, width = self.depth.shape
        root = _root(s)
        reach = max(s.radii) + max(s.bulge, 0.0)
        (ax, ay, _), (bx, by, _) = s.start, s.end
        half_x, half_y = reach * root[0, 0], reach * np.hypot(root[1, 0], root[1, 1])
        x0, x1 = max(int(min(ax, bx) - half_x), 0), min(int(max(ax, bx) + half_x) + 2, width)
        y0, y1 = max(int(min(ay, by) - half_y), 0), min(int(max(ay, by) + half_y) + 2, height)
        if x0 >= x1 or y0 >= y1 or max(half_x, half_y) < 0.7:
            return
        band = max(1, _BAND // (x1 - x0))
        for top in range(y0, y1, band):
            self._sweep_rows(s, root, (x0, x1), (top, min(top + band, y1)))

    def _sweep_rows(self, s: Sweep, root, columns, rows) -> None:
        (x0, x1), (y0, y1), width = columns, rows, self.depth.shape[1]
        (ax, ay, az), (bx, by, bz) = s.start, s.end
        # Pixels in the frame where the ellipsoid is a ball of radius 1 times its size.
        from_x = np.arange(x0, x1, dtype=np.float32) - np.float32(ax)
        from_y = np.arange(y0, y1, dtype=np.float32)[:, None] - np.float32(ay)
        skew = root[1, 0] / (root[0, 0] * root[1, 1])
        qx = from_x / np.float32(root[0, 0])
        qy = from_y / np.float32(root[1, 1])
        if skew:
            qy = qy - from_x * np.float32(skew)
        ex = (bx - ax) / root[0, 0]
        ey = (by - ay) / root[1, 1] - (bx - ax) * skew
        square = max(ex * ex + ey * ey, 1e-12)
        raw = qx * np.float32(ex / square) + qy * np.float32(ey / square)
        t = np.clip(raw, 0, 1)
        dx = t * np.float32(-ex) + qx
        dy = t * np.float32(-ey) + qy
        size = t * np.float32(s.radii[1] - s.radii[0]) + np.float32(s.radii[0])
        if s.bulge:
            size += np.float32(4 * s.bulge) * (t * (1 - t))
        if s.step:
            size -= np.float32(s.step) * (t > s.cut)
        # The ball's height above the picture plane, squared; not positive outside the outline.
        bulk = size * size - dx * dx - dy * dy
        seen = bulk > 0
        bulk = np.sqrt(np.maximum(bulk, 0))
        slope_x, slope_y, slope = root[2].astype(np.float32)
        z = bulk * -slope
        if slope_x or slope_y:
            z = z + slope_x * dx + slope_y * dy
        z = z + t * np.float32(bz - az) + np.float32(az)
        seen &= z < self.depth[y0:y1, x0:x1]
        row, column = seen.nonzero()
        if not row.size:
            return
        inside = row * (x1 - x0) + column
        size = size.ravel()[inside]
        ball = np.empty((3, row.size), np.float32)
        np.divide(dx.ravel()[inside], size, out=ball[0])
        np.divide(dy.ravel()[inside], size, out=ball[1])
        np.divide(bulk.ravel()[inside], -size, out=ball[2])
        where = inside + (row * (width - x1 + x0) + (y0 * width + x0))
        along = raw.ravel()[inside]
        z = z.ravel()[inside]
        self._write(s, root, where, z, ball, along)

    def _write(self, s: Sweep, root, where, z, ball, along) -> None:
        # Normals of the ellipsoid: the inverse transpose of the map from the unit ball.
        to_normal = _inverse(root).T * np.array([[s.scale], [s.scale], [1.0]])
        seen_from = np.array((self._light, s.lateral, s.front, _TO_CAMERA)) @ to_normal
        light, side, ahead, facing = seen_from.astype(np.float32) @ ball
        if s.axes is not None:
            normal = to_normal.astype(np.float32) @ ball
            shrink = 1 / np.sqrt(np.einsum("in,in->n", normal, normal))
            light *= shrink
            side *= shrink
            facing *= shrink
        quarter = np.float32(TEXELS / 4)
        v = np.where(ahead >= 0, quarter + quarter * side, 3 * quarter - quarter * side)
        first, last = (np.float32(TEXELS * end) for end in s.span)
        u = first + (last - first) * along
        texel = (v.astype(np.int32) & _LAST) << _BITS | (u.astype(np.int32) & _LAST)
        material = s.material if s.beyond < 0 else np.where(along > s.cut, s.beyond, s.material)
        self.depth.ravel()[where] = z
        self._code.ravel()[where] = texel | (material << (2 * _BITS))
        level = self._ambient + (1 - self._ambient) * np.maximum(light, 0)
        # Grazing surfaces are a little darker: less of the surroundings lights them.
        self._light_level.ravel()[where] = level * (0.72 + 0.28 * facing)

    def polygon(
        self,
        corners: Float[np.ndarray, "n 2"],
        depth: float,
        material: int,
        *,
        texel_size: float,
        level: float = 1.0,
    ) -> None:
        """Draws a flat convex polygon that faces the camera; corners are in samples.

        A texel is `texel_size` samples wide, `level` the brightness.
        """
        height, width = self.depth.shape
        low = np.maximum(np.floor(corners.min(0)), 0).astype(int)
        high = np.minimum(np.ceil(corners.max(0)) + 1, (width, height)).astype(int)
        if (low >= high).any():
            return
        window = (slice(low[1], high[1]), slice(low[0], high[0]))
        mask = np.zeros((high[1] - low[1], high[0] - low[0]), np.uint8)
        cv2.fillConvexPoly(mask, np.round(corners - low).astype(np.int32), 1)
        mask = (mask > 0) & (self.depth[window] > depth)
        v, u = ((np.arange(n) / texel_size).astype(np.int32) % TEXELS for n in high - low)
        code = (material << (2 * _BITS)) | (v[None, :] * TEXELS + u[:, None])
        np.copyto(self.depth[window], np.float32(depth), where=mask)
        np.copyto(self._code[window], code.astype(np.int32), where=mask)
        np.copyto(self._light_level[window], np.float32(level), where=mask)

    def resolve(self) -> tuple[Float[np.ndarray, "h w 3"], Float[np.ndarray, "h w"]]:
        """RGB from 0 to 255, premultiplied by the coverage; the coverage from 0 to 1."""
        bank, folds, _ = textures()
        drawn = np.flatnonzero(self._code)
        code = self._code.ravel()[drawn]
        material, texel = code >> (2 * _BITS), code & (TEXELS * TEXELS - 1)
        # One table of 256 mixtures per material, so that a sample costs one look-up.
        low = np.array([m.low for m in self.materials], np.float32)[:, None]
        high = np.array([m.high for m in self.materials], np.float32)[:, None]
        shares = np.linspace(0, 1, 256, dtype=np.float32)[:, None]
        mixtures = (low + (high - low) * shares).reshape(-1, 3)
        tile = np.array([m.tile for m in self.materials], np.int32) << (2 * _BITS)
        mix = bank.ravel()[tile[material] | texel]
        fold_depth = np.array([m.folds for m in self.materials], np.float32) / 255
        level = self._light_level.ravel()[drawn] * self._openness().ravel()[drawn]
        level *= 1 - fold_depth[material] * folds[texel]
        shaded = mixtures.take(material << 8 | mix, axis=0) * level[:, None]
        height, width = self.depth.shape
        colour = np.zeros((height, width, 3), np.uint8)
        colour.reshape(-1, 3)[drawn] = np.minimum(shaded, 255)
        covered = (self._code != 0).astype(np.uint8) * np.uint8(255)
        size = (width // OVERSAMPLE, height // OVERSAMPLE)
        return (
            cv2.resize(colour, size, interpolation=cv2.INTER_AREA).astype(np.float32),
            cv2.resize(covered, size, interpolation=cv2.INTER_AREA).astype(np.float32) / 255,
        )

    def _openness(self) -> Float[np.ndarray, "H W"]:
        """Contact shadows: surfaces that lie behind their neighbours get less light."""
        height, width = self.depth.shape
        depth = np.minimum(self.depth[::2, ::2], np.float32(1e3))
        reach = max(3, width // 110 | 1)
        nearest = cv2.erode(depth, np.ones((reach, reach), np.uint8))
        gap = np.clip(depth - cv2.blur(nearest, (reach, reach)) - 0.05, 0, 0.25)
        return cv2.resize(1 - np.float32(1.6) * gap, (width, height))


def _root(s: Sweep) -> Float[np.ndarray, "3 3"]:
    """Lower triangular map from the unit ball to (pixels, pixels, metres)."""
    if s.axes is None:
        return np.diag([s.scale, s.scale, 1.0])
    (xx, xy, xz), (_, yy, yz), (_, _, zz) = (s.axes @ s.axes.T).tolist()
    a = math.sqrt(xx)  # Cholesky's decomposition, written out: numpy's takes ten times as long
    b = xy / a
    c = math.sqrt(yy - b * b)
    d = xz / a
    e = (yz - b * d) / c
    f = math.sqrt(zz - d * d - e * e)
    k = s.scale
    return np.array([[k * a, 0.0, 0.0], [k * b, k * c, 0.0], [d, e, f]])


def _inverse(root: Float[np.ndarray, "3 3"]) -> Float[np.ndarray, "3 3"]:
    """Of a lower triangular matrix."""
    (a, _, _), (b, c, _), (d, e, f) = root.tolist()
    last = [(b * e - c * d) / (a * c * f), -e / (c * f), 1 / f]
    return np.array([[1 / a, 0, 0], [-b / (a * c), 1 / c, 0], last])
