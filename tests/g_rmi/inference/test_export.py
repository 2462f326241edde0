"""Geometry on the device against that on the host, and what cannot be exported."""

from functools import partial

import jax
import numpy as np
import pytest

from g_rmi.geometry import fit_canvas
from g_rmi.inference.canvas import fit_on_device
from g_rmi.inference.export import export_program
from g_rmi.inference.pipeline import PosePipeline
from g_rmi.pose.config import PoseConfig
from g_rmi.pose.task import PoseTask


@pytest.mark.parametrize(
    ("canvas", "squash"),
    [
        *(((64, 80), False), ((256, 352), False), ((800, 1200), False), ((96, 96), False)),
        *(((64, 80), True), ((96, 96), True)),
    ],
)
def test_pictures_of_any_size_lie_on_the_canvas_as_on_the_host(canvas, squash):
    random = np.random.default_rng(0)
    sizes = np.concatenate(
        [
            np.stack(np.meshgrid(np.arange(1, 20), np.arange(1, 20)), -1).reshape(-1, 2),
            random.integers(1, 7000, (300, 2)),
            random.integers(1, 60, (100, 2)) * 16,
        ]
    ).astype(np.int32)
    image = np.zeros((len(sizes), 1, 1, 3), np.uint8)
    fit = jax.jit(partial(fit_on_device, squash=squash), static_argnames="canvas")
    lying, standing = (
        jax.device_get(fit(image, sizes, canvas=sides)) for sides in (canvas, canvas[::-1])
    )
    for i, (height, width) in enumerate(sizes.tolist()):
        wanted = fit_canvas(height, width, canvas=canvas, squash=squash)
        ours = lying if width >= height else standing
        assert tuple(ours.canvas_size[i]) == wanted.size, (height, width)
        assert ours.scale[i] == pytest.approx(1 / np.diag(wanted.affine[:, :2]), rel=1e-6)
        assert not wanted.affine[:, 2].any()


def test_only_a_whole_program_is_exported():
    alone = PosePipeline(None, PoseTask(PoseConfig()), {})
    with pytest.raises(ValueError, match="without a detector"):
        export_program(alone, height=8, width=8)
