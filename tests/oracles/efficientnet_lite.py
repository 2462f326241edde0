"""Writes tests/fixtures/efficientnet_lite.npz: features of the original EfficientNet-Lite.

    pip install torch efficientnet-lite-pytorch==0.1.0     # lukemelas' code; Apache-2.0
    python -m tests.oracles.efficientnet_lite

The network is a narrow and shallow one; its weights are a formula of their names' order and shapes.
"""

from pathlib import Path

import numpy as np

FIXTURE = Path(__file__).parents[1] / "fixtures" / "efficientnet_lite.npz"
WIDTH, DEPTH = 0.25, 0.5
ROWS, COLUMNS = 97, 65
# The last units of blocks 1 to 4, numbered as the original does.
LAST = {"block1": 1, "block2": 2, "block3": 6, "block4": 9}


def picture():
    """A colourful one, uint8 [1, ROWS, COLUMNS, 3]."""
    y, x, c = np.mgrid[:ROWS, :COLUMNS, :3]
    return ((y * (c + 3) + x * (7 - 2 * c) + x * y // 9) % 251).astype(np.uint8)[None]


def weights(shapes):
    """A state dict; {name: shape} in their order."""
    state = {}
    for order, (name, shape) in enumerate(shapes.items()):
        wave = np.sin(order + 12.9898 * np.arange(np.prod(shape, dtype=int))).reshape(shape)
        if name.endswith("num_batches_tracked"):
            wave = np.zeros(shape)
        elif len(shape) == 4:
            wave = wave * np.sqrt(4 / np.prod(shape[1:]))
        elif name.endswith(("weight", "running_var")):
            wave = 0.75 + 0.25 * wave
        else:
            wave = 0.3 * wave
        state[name] = wave.astype(np.float32)
    return state


def _main():
    import torch
    from efficientnet_lite_pytorch import EfficientNet
    from efficientnet_lite_pytorch.utils import get_model_params

    changes = {"width_coefficient": WIDTH, "depth_coefficient": DEPTH, "image_size": None}
    model = EfficientNet(*get_model_params("efficientnet-lite0", changes)).eval()
    shapes = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    model.load_state_dict({n: torch.from_numpy(w) for n, w in weights(shapes).items()})
    seen = {}
    for name, number in LAST.items():
        hook = lambda _, __, out, name=name: seen.__setitem__(name, out)  # noqa: E731
        model._blocks[number].register_forward_hook(hook)
    with torch.no_grad():
        image = torch.from_numpy(picture()).permute(0, 3, 1, 2).float()
        model.extract_features((image - 127) / 128)
    features = {name: out.permute(0, 2, 3, 1).numpy() for name, out in seen.items()}
    names = np.array([f"{name} {' '.join(map(str, shape))}" for name, shape in shapes.items()])
    np.savez_compressed(FIXTURE, names=names, **features)


if __name__ == "__main__":
    _main()
