"""One operator of ONNX, run by onnxruntime; needs `onnx` and `onnxruntime`."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np


def onnx_node(
    operator: str, inputs: Mapping[str, np.ndarray], *, domain: str = "", **attributes: Any
) -> Callable[[], np.ndarray]:
    """A model of one node on given arrays.

    Args:
      operator: Its name.
      inputs: Its arrays by any name, in its order.
      domain: Whose operator it is; ONNX's own without.
      **attributes: Of the node.

    Returns:
      A call that computes the node's first output.

    Raises:
      ImportError: One of the packages is missing.
    """
    import onnxruntime
    from onnx import helper

    values = [
        helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(x.dtype), x.shape)
        for name, x in inputs.items()
    ]
    node = helper.make_node(operator, list(inputs), ["output"], domain=domain, **attributes)
    graph = helper.make_graph(
        [node], operator, values, [helper.make_empty_tensor_value_info("output")]
    )
    versions = [helper.make_opsetid("", 16), helper.make_opsetid("com.microsoft", 1)]
    model = helper.make_model(graph, opset_imports=versions, ir_version=8)
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    feed = dict(inputs)
    return lambda: session.run(None, feed)[0]
