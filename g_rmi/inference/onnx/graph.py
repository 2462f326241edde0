"""Writes ONNX graphs as arithmetic: values have operators, any other of ONNX's is a method."""

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partialmethod
from typing import Any

import numpy as np

# Of ONNX; no operator that is used needs a newer one. onnxruntime reads it since 1.14.
OPSET = 18
_IR_VERSION = 8


class Value:
    """What a node of a graph, or the caller, gives."""

    def __init__(self, graph: "Graph", name: str):
        """A value of that name."""
        self.graph, self.name = graph, name

    def __getattr__(self, operator: str) -> Callable[..., Any]:
        """An operator of ONNX with this as its first input: `x.Reshape([0, -1])`."""
        if not operator[0].isupper():
            raise AttributeError(operator)
        return lambda *inputs, **options: self.graph.node(operator, self, *inputs, **options)

    def _binary(self, other: Any, *, operator: str) -> "Value":
        return self.graph.node(operator, self, other)

    def _reversed(self, other: Any, *, operator: str) -> "Value":
        return self.graph.node(operator, other, self)

    __add__ = __radd__ = partialmethod(_binary, operator="Add")
    __mul__ = __rmul__ = partialmethod(_binary, operator="Mul")
    __sub__ = partialmethod(_binary, operator="Sub")
    __rsub__ = partialmethod(_reversed, operator="Sub")
    __truediv__ = partialmethod(_binary, operator="Div")  # of int64 whole ones, towards 0
    __mod__ = partialmethod(_binary, operator="Mod")
    __and__ = partialmethod(_binary, operator="And")
    __or__ = partialmethod(_binary, operator="Or")
    __lt__ = partialmethod(_binary, operator="Less")
    __le__ = partialmethod(_binary, operator="LessOrEqual")
    __gt__ = partialmethod(_binary, operator="Greater")
    __ge__ = partialmethod(_binary, operator="GreaterOrEqual")

    def __invert__(self) -> "Value":
        return self.Not()

    def part(self, start: Any, stop: Any, *, axis: int) -> "Value":
        """The positions from `start` to `stop` of an axis; numbers, or values int64 [1]."""
        ends = [[x] if isinstance(x, int) else x for x in (start, stop)]
        return self.Slice(*ends, [axis])

    def at(self, index: int, *, axis: int) -> "Value":
        """One position of an axis, which goes."""
        return self.Gather(np.int64(index), axis=axis)

    def as_float(self) -> "Value":
        """As float32."""
        return self.Cast(to=1)

    def as_int(self) -> "Value":
        """As int64, towards 0."""
        return self.Cast(to=7)

    def sides(self, axes: slice) -> "Value":
        """Lengths of some axes, int64 [n]."""
        return self.Shape(start=axes.start, end=axes.stop)


class Graph:
    """A graph that is being written, or the body of a loop in one."""

    def __init__(self, outer: "Graph | None" = None):
        """An empty graph, with the constants of an outer one."""
        self._nodes: list[Any] = []
        self._inputs: list[Any] = []
        self._root: Graph = outer._root if outer else self
        if not outer:
            self._constants: dict[tuple, Any] = {}
            self._count = 0
        # Where nodes go while a body is written, the innermost last.
        self._writing: list[Graph] = outer._root._writing if outer else [self]

    def node(self, operator: str, *inputs: Any, outputs: int = 1, **attributes: Any) -> Any:
        """Appends an operator; numbers and arrays become constants, None is an input left out.

        Whole numbers are int64, all others float32. Returns its output, or a list of several.
        """
        from onnx import helper

        root = self._root
        names = [root._name_of(x) for x in inputs]
        given = [f"{operator}_{root._next()}" for _ in range(outputs)]
        node = helper.make_node(operator, names, given, name=given[0], **attributes)
        root._writing[-1]._nodes.append(node)
        values = [Value(root, name) for name in given]
        return values if outputs > 1 else values[0]

    def constant(self, value: Any) -> Value:
        """A constant."""
        return Value(self, self._root._name_of(value))

    def input(self, name: str, dtype: Any, shape: Sequence[int | str]) -> Value:
        """An input of the graph; words are sides of any length."""
        from onnx import helper

        kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
        self._inputs.append(helper.make_tensor_value_info(name, kind, shape))
        return Value(self, name)

    def concat(self, *values: Any, axis: int) -> Value:
        """Values one after the other."""
        return self.node("Concat", *values, axis=axis)

    def each(self, function: Callable[..., tuple[Value, ...]], *rows: Value) -> list[Value]:
        """`function` of each row of some values, float32, one after the other; its results stacked.

        One row at a time is in memory.
        """
        from onnx import helper

        with self._body() as body:
            given = [Value(self._root, f"row_{self._root._next()}") for _ in rows]
            body._inputs = [_typed(value, 1) for value in given]
            results = [value.Identity() for value in function(*given)]
        inner = helper.make_graph(
            body._nodes, "each", body._inputs, [_typed(value, 1) for value in results]
        )
        options = {"body": inner, "num_scan_inputs": len(rows), "outputs": len(results)}
        found = self.node("Scan", *rows, **options)
        return found if len(results) > 1 else [found]

    def repeat(self, function: Callable[[Value], Value], first: Value, *, most: Value) -> Value:
        """`function` of a boolean value, of what comes out and so on, until nothing changes.

        `most` is how often at most, int64 [].
        """
        from onnx import helper

        with self._body() as body:
            names = [f"{what}_{self._root._next()}" for what in ("step", "going", "state")]
            step, going, state = (Value(self._root, name) for name in names)
            after = function(state)
            changed = after.Xor(state).Cast(to=7).ReduceMax(keepdims=0) > 0
        types = [_typed(step, 7, []), _typed(going, 9, []), _typed(state, 9)]
        outputs = [_typed(changed, 9, []), _typed(after, 9)]
        inner = helper.make_graph(body._nodes, "repeat", types, outputs)
        return self.node("Loop", most, np.array(True), first, body=inner)

    @contextlib.contextmanager
    def _body(self) -> Iterator["Graph"]:
        body, writing = Graph(self), self._root._writing
        writing.append(body)
        try:
            yield body
        finally:
            writing.pop()

    def model(
        self, outputs: Mapping[str, tuple[Value, Sequence[int] | None]], about: dict[str, str]
    ) -> Any:
        """The whole as an `onnx.ModelProto`; outputs with their shapes, `about` as metadata."""
        from onnx import helper

        infos = []
        for name, (value, shape) in outputs.items():
            self._nodes.append(helper.make_node("Identity", [value.name], [name]))
            infos.append(_typed(Value(self, name), 9 if name == "valid" else 1, shape))
        constants = list(self._constants.values())
        graph = helper.make_graph(self._nodes, "g_rmi", self._inputs, infos, constants)
        opset = [helper.make_opsetid("", OPSET)]
        model = helper.make_model(graph, opset_imports=opset, ir_version=_IR_VERSION)
        helper.set_model_props(model, about)
        return model

    def _next(self) -> int:
        self._root._count += 1
        return self._root._count

    def _name_of(self, value: Any) -> str:
        from onnx import numpy_helper

        if value is None:
            return ""
        if isinstance(value, Value):
            return value.name
        array = np.asarray(value)
        if array.dtype not in (bool, np.uint8):
            whole = array.dtype.kind in "iu" and array.size > 0
            array = array.astype(np.int64 if whole else np.float32)
        key = array.dtype.str, array.shape, array.tobytes()
        if key not in self._constants:
            name = f"constant_{self._next()}"
            self._constants[key] = numpy_helper.from_array(np.ascontiguousarray(array), name)
            if array.shape == ():  # which `ascontiguousarray` makes a row of one
                self._constants[key] = numpy_helper.from_array(array, name)
        return self._constants[key].name


def _typed(value: Value, kind: int, shape: Sequence[int] | None = None) -> Any:
    from onnx import helper

    return helper.make_tensor_value_info(value.name, kind, shape)
