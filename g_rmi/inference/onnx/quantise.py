"""A written graph with its convolutions in eight bits."""

import logging
import tempfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from jaxtyping import UInt8


def to_int8(data: bytes, pictures: Iterable[UInt8[np.ndarray, "_ _ 3"]]) -> bytes:
    """The same model with weights and activations of all convolutions in int8 and uint8.

    Ranges of activations are the widest seen on the pictures, those of weights each channel's own.
    The model wants `people_model`'s input; all but convolutions stays float32.
    """
    from onnxruntime import quantization

    given = iter(pictures)

    class Reader(quantization.CalibrationDataReader):
        def get_next(self):
            picture = next(given, None)
            return None if picture is None else {"picture": picture}

    with tempfile.TemporaryDirectory() as folder:
        before, after = Path(folder) / "float.onnx", Path(folder) / "int8.onnx"
        before.write_bytes(data)
        level = logging.root.manager.disable
        logging.disable(logging.WARNING)  # which recommends what is of no use to such a graph
        try:
            quantization.quantize_static(
                before,
                after,
                Reader(),
                quant_format=quantization.QuantFormat.QDQ,
                op_types_to_quantize=["Conv"],
                per_channel=True,
                activation_type=quantization.QuantType.QUInt8,
                weight_type=quantization.QuantType.QInt8,
            )
        finally:
            logging.disable(level)
        return after.read_bytes()
