"""ImageNet ResNets in torchvision's and timm's naming -> variables of `g_rmi.nn.resnet.ResNet`.

The correspondence is a table; the import is strict both ways. No pickle is ever opened.
"""

import re
from collections.abc import Mapping
from typing import Any

from g_rmi.nn.resnet import UNITS, ResNet
from g_rmi.pretrained.table import Source, Table, fill, read

TABLE = Table(
    modules=(
        (r"conv1", r"conv1"),
        (r"norm1", r"bn1"),
        (r"block(\d)_unit(\d+)/conv(\d)", r"layer\1.\2.conv\3"),
        (r"block(\d)_unit(\d+)/norm(\d)", r"layer\1.\2.bn\3"),
        (r"block(\d)_unit(\d+)/shortcut_conv", r"layer\1.\2.downsample.0"),
        (r"block(\d)_unit(\d+)/shortcut_norm", r"layer\1.\2.downsample.1"),
    ),
    # The classifier and PyTorch's step counters.
    dropped=r"fc\.weight|fc\.bias|(.+\.)?(bn\d|downsample\.1)\.num_batches_tracked",
)


def load_resnet(
    source: Source,
    *,
    depth: int,
    width: int = 64,
    stem_width: int | None = None,
) -> dict[str, Any]:
    """Reads the weights of an ImageNet ResNet, for a `ResNet` of that depth and those widths.

    `source` is a `.safetensors` file, or a state dict: torchvision's or timm's names to arrays
    (numpy, or what numpy converts, PyTorch's tensors among them). Returns `{"params": ...,
    "batch_stats": ...}`, float32, for norm "batch" or "frozen" and any output stride.

    Raises:
      ValueError: Weights are missing, unknown or of a wrong shape (all of them are named), belong
        to another depth, or are in a file of another kind.
      FileNotFoundError: There is no such file.
    """
    label, state = read(source)
    found = _depth_of(state)
    if found not in (None, depth):
        raise ValueError(f"{label}: the weights of a ResNet-{found}, not of depth = {depth}")
    network = ResNet(depth, width=width, stem_width=stem_width)
    return fill(network, TABLE, state, label=label, name=f"ResNet-{depth}")


def _depth_of(state: Mapping[str, Any]) -> int | None:
    """The depth that the numbers of bottleneck units show; None if it is none of ours."""
    units = {m.groups() for name in state if (m := re.match(r"layer(\d)\.(\d+)\.conv3\.", name))}
    counts = tuple(sum(block == number for block, _ in units) for number in "1234")
    return next((depth for depth, wanted in UNITS.items() if wanted == counts), None)
