"""The pose network as ONNX, for runtimes other than jax."""

import dataclasses
import logging
from typing import Any

import jax
import numpy as np

from g_rmi.nn.rewrites import plain
from g_rmi.pose.task import PoseTask

# Of ONNX; no operator of the network needs a newer one.
OPSET = 18
# Greatest difference to jax, as a share of the map's greatest value: float32 and some to spare.
TOLERANCE = 1e-3


def to_onnx(task: PoseTask, variables: Any) -> tuple[bytes, float]:
    """Converts the network, in float32, and compares what comes out with jax.

    Its input is "crops", float32 RGB in 0..255, [B, H, W, 3] with any B; its outputs are the maps
    of the head, such as "heatmap" [B, h, w, K] and "offset" [B, h, w, K, 2]. Returns the model, and
    the greatest difference between onnxruntime's maps and jax's on random crops; a ValueError if
    they differ, or jax2onnx or onnxruntime is not installed.
    """
    try:
        import jax2onnx
        import onnxruntime
    except ImportError as error:
        raise ValueError(
            f"ONNX needs the package {error.name}: pip install jax2onnx onnxruntime"
        ) from None
    # Which complains of the shape of every constant.
    logging.getLogger("onnx_ir").setLevel(logging.ERROR)
    config = dataclasses.replace(task.config, dtype="float32", remat=False)
    task = dataclasses.replace(task, config=config)

    names = [field.name for field in config.head.fields]

    def network(crops):
        with plain():
            maps = task.predict(variables, crops)
        return tuple(maps[name] for name in names)

    shape = *config.grid, 3
    model = jax2onnx.to_onnx(
        network, [("B", *shape)], opset=OPSET, input_names=["crops"], output_names=names
    )
    for output in model.graph.output:
        output.type.tensor_type.shape.dim[0].dim_param = "B"
    data = model.SerializeToString()

    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    crops = np.random.default_rng(0).uniform(0, 255, (2, *shape)).astype(np.float32)
    with jax.default_matmul_precision("highest"):  # accelerators would round
        expected = jax.device_get(jax.jit(network)(crops))
    worst = 0.0
    for name, ours, theirs in zip(names, expected, session.run(names, {"crops": crops})):
        difference, most = np.abs(ours - theirs).max(), np.abs(ours).max()
        if not difference <= TOLERANCE * most:
            raise ValueError(
                f"ONNX's {name} differs from the network's by {difference:.2g}, with values up to "
                f"{most:.2g}: nothing was written"
            )
        worst = max(worst, float(difference))
    return data, worst
