"""Coarse network maps of every kind, with the joints they were made from."""

import numpy as np


def joint_positions(rng, people, joints, *, height, width):
    """People of different sizes, the first one in the middle; some joints leave the crop."""
    centres = rng.uniform(0.2, 0.8, (people, 1, 2)) * [width, height]
    centres[0] = [width / 2, height / 2]
    spread = rng.uniform(0.1, 0.3, (people, 1, 1)) * [width, height]
    return (centres + spread * rng.normal(size=(people, joints, 2))).astype(np.float32)


def peaked_maps(
    rng, *, h, w, joints, stride, radius, people=1, noise=0.0, softness=0.15, confidence=4.0
):
    """Maps of a trained network: soft disks around every person's joint, offsets to the nearest.

    `noise` of the offsets and `softness` of the rims are shares of the radius; `confidence` is the
    greatest logit of the first person, the others have less. The first person's joints come last.
    """
    height, width = (h - 1) * stride + 1, (w - 1) * stride + 1
    points = joint_positions(rng, people, joints, height=height, width=width)
    grid = stride * np.stack(np.meshgrid(np.arange(w), np.arange(h)), axis=-1).astype(np.float32)
    away = points[:, None, None] - grid[None, :, :, None]
    distance = np.linalg.norm(away, axis=-1)
    level = confidence - 1.5 * np.arange(people)[:, None, None, None]
    logits = np.clip((radius - distance) / (softness * radius), -8, level).max(axis=0)
    nearest = distance.argmin(axis=0)[None, ..., None]
    offset = np.take_along_axis(away, nearest, axis=0)[0]
    far = np.maximum(distance.min(axis=0) / radius, 1)[..., None]
    offset = offset / far + noise * radius * far * rng.normal(size=offset.shape)
    logits = logits + noise * rng.normal(size=logits.shape)
    return logits.astype(np.float32), offset.astype(np.float32), points[0]


def kinds(rng, *, h, w, joints, stride, radius):
    """Name -> (logits, offset): trained, untrained, saturated, flat and hostile maps."""
    sizes = {"h": h, "w": w, "joints": joints, "stride": stride, "radius": radius}
    shape = (h, w, joints)

    def noise(scale, *more):
        return (scale * rng.normal(size=(*shape, *more))).astype(np.float32)

    flat = np.full(shape, -3, np.float32)
    huge = noise(1.0, 2)
    huge *= 10 ** rng.uniform(0, 37, huge.shape).astype(np.float32)
    huge[1, 1:3], huge[2, 1:3] = 3e38, -2e38  # their difference is no float32
    inward = np.zeros((*shape, 2), np.float32)
    inward[..., 0] = stride * ((w - 1) / 2 - np.arange(w))[None, :, None]
    return {
        "one person": peaked_maps(rng, **sizes)[:2],
        "one person, noisy": peaked_maps(rng, **sizes, noise=0.1)[:2],
        "three people": peaked_maps(rng, **sizes, people=3, noise=0.1)[:2],
        "three people, unsure": peaked_maps(
            rng, **sizes, people=3, noise=0.3, confidence=-1.0, softness=0.5
        )[:2],
        "untrained": (noise(0.1), noise(0.5, 2)),
        "noise": (noise(3.0), noise(radius, 2)),
        "wild offsets": (noise(3.0), noise(4 * radius * stride, 2)),
        "saturated": (np.sign(noise(1.0)) * np.float32(80), noise(1.0, 2)),
        "flat": (flat, np.zeros((*shape, 2), np.float32)),
        "flat, shifted": (flat, np.full((*shape, 2), 2, np.float32)),
        "all to one column": (flat, inward),
        "all outside": (noise(1.0), np.full((*shape, 2), 1e4, np.float32)),
        "nothing there": (np.full(shape, -120, np.float32), noise(radius, 2)),
        "huge offsets": (noise(1.0), huge),
    }
