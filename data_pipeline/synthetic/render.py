"""A small z-buffer: swept ellipsoids and flat polygons with cloth textures, shaded at the end.

Pictures are drawn at twice their size and averaged down. Points are (x, y) in those doubled pixels
and a depth z in metres that grows away from the camera. Every material belongs to one owner (a
person, or `OBJECT`), so the buffer of materials is also the id-buffer that masks come from.
"""

import dataclasses
import functools

import cv2
import numpy as np
from jaxtyping import Bool, Float, Int, UInt8

OVERSAMPLE = 2
OBJECT = 0  # owner of everything that is not a person
TEXELS = 128
_BITS = 7
Number = float | int
Colour = tuple[Number, Number, Number]
assert 1 << _BITS == TEXELS


@dataclasses.dataclass(frozen=True, slots=True)
class Sweep:
    """An ellipsoid whose centre moves from `start` to `end` while its size goes from r0 to r1.

    Attributes:
      start: (x, y, depth) of the first centre.
      end: The same of the last.
      radii: Sizes at the two ends: metres, or multiples of `axes`.
      scale: Pixels per metre.
      material: Index into the canvas's materials.
      axes: Semi-axes as columns, metres, camera frame; None for a ball of radius 1 m.
      bulge: Added size half-way, in the unit of `radii`.
      lateral: Direction of texture's right, camera frame.
      front: Direction in which the middle of the texture's front faces.
      beyond: Material where the sweep is past `cut`, thinner by `step`.
      cut: Share of the sweep at which the material changes.
      step: Loss of size past `cut`.
      span: Texture coordinate along the sweep at its two ends, in texture lengths.
    """

    start: tuple[float, float, float]
    end: tuple[float, float, float]
    radii: tuple[Number, Number]
    scale: float
    material: int
    axes: np.ndarray | None = None
    bulge: float = 0.0
    lateral: np.ndarray | None = None
    front: np.ndarray | None = None
    beyond: int = -1
    cut: float = 2.0
    step: float = 0.0
    span: tuple[Number, Number] = (0.0, 1.0)


@dataclasses.dataclass(frozen=True)
class Material:
    """Two colours that a texture tile mixes, and how the surface takes light.

    Attributes:
      owner: Person number, from 1, or `OBJECT`.
      low: RGB where the tile is 0.
      high: RGB where the tile is 1.
      tile: Index of the texture tile.
      folds: Depth of the cloth folds, 0 to 1.
      gloss: Strength of the highlight.
    """

    owner: int
    low: Colour
    high: Colour
    tile: int = 0
    folds: float = 0.0
    gloss: float = 0.0


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
    tiles = [0.15 * _noise(rng, 32) + 0.1 * _noise(rng, 64)]
    for period in (4, 8, 16, 32):
        tiles.append((u % period < period // 2).astype(np.float32))
        tiles.append((v % period < period // 4).astype(np.float32))
        tiles.append(0.5 * (u % period < period // 2) + 0.5 * (v % period < period // 2))
    tiles.append(((u // 8 + v // 8) % 2).astype(np.float32))
    tiles.append((((u % 16) - 8) ** 2 + ((v % 16) - 8) ** 2 < 14).astype(np.float32))
    tiles.append(0.4 * ((u + v) % 4 < 2) + 0.6 * _noise(rng, 8))
    for cells in (4, 8, 16, 32):
        noise = _noise(rng, cells)
        tiles.append(noise)
        tiles.append((noise > 0.55).astype(np.float32))
    return tiles


def _decals(rng: np.random.Generator) -> list[np.ndarray]:
    """Patterns of a torso, with the middle of the chest at row 1/4 and of the back at 3/4."""
    v, u = np.meshgrid(np.arange(TEXELS) / TEXELS, np.arange(TEXELS) / TEXELS, indexing="ij")
    front, back = np.abs(v - 0.25), np.abs(v - 0.75)
    text = (_noise(rng, 32) > 0.5).astype(np.float32)
    tiles = [
        (front < 0.06).astype(np.float32),  # open jacket
        ((front < 0.035) | ((front < 0.10) & (u > 0.86))).astype(np.float32),
        ((front < 0.018) & (u > 0.1)).astype(np.float32),  # tie
        ((front < 0.006) | ((front < 0.012) & (u % 0.12 < 0.03))).astype(np.float32),  # buttons
        ((front < 0.09) & (np.abs(u - 0.68) < 0.10)) * text,  # print
        ((front < 0.11) & (np.abs(u - 0.60) < 0.05)) * text,
        ((back < 0.08) & (np.abs(u - 0.65) < 0.16)) * text,  # number
        (u > 0.62).astype(np.float32),
        (u < 0.35).astype(np.float32),
        (np.abs(u - 0.55) < 0.07).astype(np.float32),
        ((front > 0.12) & (back > 0.12)).astype(np.float32),  # side panels
        (np.abs((front + 0.15) - 0.3 * u) < 0.025).astype(np.float32),  # straps
    ]
    return tiles


@functools.cache
def textures() -> tuple[UInt8[np.ndarray, "T n"], UInt8[np.ndarray, " n"], int]:
    """The tiles (flattened), the folds, and the index of the first torso tile; always the same."""
    rng = np.random.default_rng(20170)
    patterns, decals = _patterns(rng), _decals(rng)
    bank = np.stack(patterns + decals).reshape(-1, TEXELS * TEXELS)
    folds = 0.55 * _noise(rng, 8) + 0.3 * _noise(rng, 16) + 0.15 * _noise(rng, 32)
    folds = (folds - folds.min()) / np.ptp(folds)
    return (
        (255 * np.clip(bank, 0, 1)).astype(np.uint8),
        (255 * folds).astype(np.uint8).ravel(),
        len(patterns),
    )


class Canvas:
    """Depth, material, texture coordinate and light of every sample of a picture.

    Attributes:
      materials: All materials drawn so far; index 0 is the empty background.
      depth: Metres; infinite where nothing is.
    """

    def __init__(self, height: int, width: int, light: Float[np.ndarray, "3"], ambient: float):
        shape = (OVERSAMPLE * height, OVERSAMPLE * width)
        self.materials = [Material(OBJECT, (0, 0, 0), (0, 0, 0))]
        self.depth = np.full(shape, np.inf, np.float32)
        self._code = np.zeros(shape, np.int32)
        self._light_level = np.zeros(shape, np.float32)
        self._light, self._ambient = light / np.linalg.norm(light), ambient

    def add(self, material: Material) -> int:
        """Registers a material and returns its index."""
        self.materials.append(material)
        return len(self.materials) - 1

    def owners(self) -> Int[np.ndarray, "H W"]:
        """The id-buffer at sample resolution: the person seen there, or `OBJECT`."""
        table = np.array([m.owner for m in self.materials], np.int32)
        return table[self._code >> (2 * _BITS)]

    def sweep(self, s: Sweep) -> None:
        """Draws a swept ellipsoid where it is in front of what is there."""
        height, width = self.depth.shape
        root = _root(s)
        reach = max(s.radii) + max(s.bulge, 0.0)
        (ax, ay, az), (bx, by, bz) = s.start, s.end
        half_x, half_y = reach * root[0, 0], reach * np.hypot(root[1, 0], root[1, 1])
        x0, x1 = max(int(min(ax, bx) - half_x), 0), min(int(max(ax, bx) + half_x) + 2, width)
        y0, y1 = max(int(min(ay, by) - half_y), 0), min(int(max(ay, by) + half_y) + 2, height)
        if x0 >= x1 or y0 >= y1:
            return
        # Pixels in the frame where the ellipsoid is a ball of radius 1 times its size.
        from_x = np.arange(x0, x1, dtype=np.float32) - np.float32(ax)
        from_y = np.arange(y0, y1, dtype=np.float32)[:, None] - np.float32(ay)
        skew = root[1, 0] / (root[0, 0] * root[1, 1])
        qx = from_x / np.float32(root[0, 0])
        qy = from_y / np.float32(root[1, 1]) - from_x * np.float32(skew)
        ex = (bx - ax) / root[0, 0]
        ey = (by - ay) / root[1, 1] - (bx - ax) * skew
        square = max(ex * ex + ey * ey, 1e-12)
        raw = qx * np.float32(ex / square) + qy * np.float32(ey / square)
        t = np.clip(raw, 0, 1)
        dx, dy = qx - t * np.float32(ex), qy - t * np.float32(ey)
        size = np.float32(s.radii[0]) + np.float32(s.radii[1] - s.radii[0]) * t
        if s.bulge:
            size += np.float32(4 * s.bulge) * (t * (1 - t))
        if s.step:
            size -= np.float32(s.step) * (t > s.cut)
        away = dx * dx + dy * dy
        inside = np.flatnonzero(away < size * size)
        if not inside.size:
            return
        dx, dy, t, size = (
            dx.ravel()[inside],
            dy.ravel()[inside],
            t.ravel()[inside],
            size.ravel()[inside],
        )
        bulk = -np.sqrt(np.maximum(size * size - away.ravel()[inside], 0))
        z = np.float32(az) + np.float32(bz - az) * t
        z += (
            np.float32(root[2, 0]) * dx
            + np.float32(root[2, 1]) * dy
            + np.float32(root[2, 2]) * bulk
        )
        where = inside + (inside // (x1 - x0)) * (width - x1 + x0) + (y0 * width + x0)
        keep = np.flatnonzero(z < self.depth.ravel()[where])
        if not keep.size:
            return
        ball = np.stack([dx[keep], dy[keep], bulk[keep]]) / size[keep]
        along = raw.ravel()[inside[keep]]
        self._write(s, root, where[keep], z[keep], ball, along)

    def _write(self, s: Sweep, root, where, z, ball, along) -> None:
        # Normals of the ellipsoid: the inverse transpose of the map from the unit ball.
        to_normal = np.linalg.inv(root).T * np.array([[s.scale], [s.scale], [1.0]])
        normal = to_normal.astype(np.float32) @ ball
        if s.axes is not None:
            normal /= np.sqrt(np.einsum("in,in->n", normal, normal))
        lateral = np.array([1.0, 0, 0]) if s.lateral is None else s.lateral
        front = np.array([0, 0, -1.0]) if s.front is None else s.front
        light, side, ahead = np.stack([self._light, lateral, front]).astype(np.float32) @ normal
        v = np.where(ahead >= 0, 0.25 + 0.25 * side, 0.75 - 0.25 * side)
        u = np.float32(s.span[0]) + np.float32(s.span[1] - s.span[0]) * along
        texel = (v * TEXELS).astype(np.int32) % TEXELS * TEXELS + (u * TEXELS).astype(
            np.int32
        ) % TEXELS
        material = s.material if s.beyond < 0 else np.where(along > s.cut, s.beyond, s.material)
        self.depth.ravel()[where] = z
        self._code.ravel()[where] = (material << (2 * _BITS)) | texel
        level = self._ambient + (1 - self._ambient) * np.maximum(light, 0)
        # Grazing surfaces are a little darker: less of the surroundings lights them.
        self._light_level.ravel()[where] = level * (0.72 - 0.28 * normal[2])

    def polygon(
        self,
        corners: Float[np.ndarray, "n 2"],
        depth: float,
        material: int,
        *,
        texel_size: float,
        level: float = 1.0,
    ) -> None:
        """Draws a flat convex polygon that faces the camera.

        Args:
          corners: In samples.
          depth: Metres.
          material: Index of the material.
          texel_size: Samples per texel.
          level: Its brightness.
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
        u = ((np.arange(low[1], high[1]) - low[1]) / texel_size).astype(np.int32) % TEXELS
        v = ((np.arange(low[0], high[0]) - low[0]) / texel_size).astype(np.int32) % TEXELS
        code = (material << (2 * _BITS)) | (v[None, :] * TEXELS + u[:, None])
        np.copyto(self.depth[window], np.float32(depth), where=mask)
        np.copyto(self._code[window], code.astype(np.int32), where=mask)
        np.copyto(self._light_level[window], np.float32(level), where=mask)

    def resolve(self) -> tuple[Float[np.ndarray, "h w 3"], Float[np.ndarray, "h w"]]:
        """Colours what was drawn and averages the samples.

        Returns:
          RGB from 0 to 255, premultiplied by the coverage; the coverage from 0 to 1.
        """
        bank, folds, _ = textures()
        drawn = np.flatnonzero(self._code)
        code = self._code.ravel()[drawn]
        material, texel = code >> (2 * _BITS), code & (TEXELS * TEXELS - 1)
        low = np.array([m.low for m in self.materials], np.float32)
        rise = np.array([m.high for m in self.materials], np.float32) - low
        depth_of_folds = np.array([m.folds for m in self.materials], np.float32) / 255
        tile = np.array([m.tile for m in self.materials])
        mix = bank[tile[material], texel].astype(np.float32) / 255
        level = self._light_level.ravel()[drawn] * self._occlusion().ravel()[drawn]
        level *= 1 - depth_of_folds[material] * folds[texel]
        colour = np.zeros((self.depth.size, 3), np.float32)
        colour[drawn] = (low[material] + rise[material] * mix[:, None]) * level[:, None]
        height, width = self.depth.shape
        colour = np.minimum(colour, 255).reshape(height, width, 3)
        covered = (self._code != 0).astype(np.float32)
        size = (width // OVERSAMPLE, height // OVERSAMPLE)
        return (
            cv2.resize(colour, size, interpolation=cv2.INTER_AREA),
            cv2.resize(covered, size, interpolation=cv2.INTER_AREA),
        )

    def _occlusion(self) -> Float[np.ndarray, "H W"]:
        """Contact shadows: surfaces behind their surroundings are darker."""
        depth = np.minimum(self.depth, np.float32(1e3))
        ksize = max(5, self.depth.shape[1] // 40 | 1)
        near = cv2.blur(depth, (ksize, ksize))
        gap = np.clip(depth - near, 0, 0.25)
        return 1 - np.float32(2.0) * gap * (depth < 999)


def _root(s: Sweep) -> Float[np.ndarray, "3 3"]:
    """Lower triangular map from the unit ball to (pixels, pixels, metres)."""
    if s.axes is None:
        return np.diag([s.scale, s.scale, 1.0])
    axes = s.axes * np.array([[s.scale], [s.scale], [1.0]])
    return np.linalg.cholesky(axes @ axes.T)


def visible_mask(owners: Int[np.ndarray, "H W"], owner: int) -> Bool[np.ndarray, "h w"]:
    """A person's pixels in the final picture: the sample nearest to each pixel's centre decides."""
    return owners[1::OVERSAMPLE, 1::OVERSAMPLE] == owner
