"""ImageNet EfficientNet-Lites in lukemelas' naming -> variables of `EfficientNetLite`.

    _conv_stem  _bn0  _blocks.N._{expand_conv,bn0,depthwise_conv,bn1,project_conv,bn2}

Their units are numbered from the first to the last, ours by block. The import is strict both ways.
"""

import re
from collections.abc import Mapping
from typing import Any

from g_rmi.nn.efficientnet import EfficientNetLite, EfficientNetLiteConfig, units
from g_rmi.pretrained.table import Source, Table, fill, read

_UNIT = {
    "expand": "_expand_conv",
    "norm0": "_bn0",
    "depthwise": "_depthwise_conv",
    "norm1": "_bn1",
    "project": "_project_conv",
    "norm2": "_bn2",
}
# The last 1x1 convolution, the classifier and PyTorch's step counters.
_DROPPED = r"(_conv_head|_bn1|_fc)\.\w+|(.+\.)?_bn\d\.num_batches_tracked"


def load_efficientnet(source: Source, *, width: float = 1.0, depth: float = 1.0) -> dict[str, Any]:
    """Reads the weights of an ImageNet EfficientNet-Lite, of those multiples of Lite0.

    `source` is a `.safetensors` file, or a state dict. Returns `{"params": ..., "batch_stats":
    ...}`, float32, for norm "batch" or "frozen" and any output stride. Features are the original's
    on images of 32 n + 1 pixels a side: there, TensorFlow's "SAME" pads alike on both sides.

    Raises:
      ValueError: Weights are missing, unknown or of a wrong shape (all of them are named), belong
        to another depth, or are in a file of another kind.
      FileNotFoundError: There is no such file.
    """
    label, state = read(source)
    ours = units(width, depth)
    modules = [(r"conv1", r"_conv_stem"), (r"norm1", r"_bn0")]
    for number, unit in enumerate(ours):
        modules += [(f"{unit.name}/{m}", f"_blocks.{number}.{name}") for m, name in _UNIT.items()]
    name = str(EfficientNetLiteConfig(width=width, depth=depth))
    if (found := _count(state)) not in (0, len(ours)):
        raise ValueError(
            f"{label}: does not fit {name}: {found} units where {len(ours)} are wanted"
        )
    table = Table(tuple(modules), _DROPPED)
    return fill(EfficientNetLite(width, depth), table, state, label=label, name=name)


def _count(state: Mapping[str, Any]) -> int:
    """How many units a state dict has."""
    return len({m[1] for name in state if (m := re.match(r"_blocks\.(\d+)\._project_conv", name))})
