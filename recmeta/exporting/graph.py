"""An ONNX graph, written as formulas.

    graph = Graph("ranking", inputs={"value": Input(np.float32, ("rows",))})
    centred = (graph.inputs["value"] - 3.5) / 1.1

A `Value` is a tensor of the graph. Python numbers next to one become constants of its type.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

OPSET = 18
"""The operator set: ONNX Runtime has it since 1.14, and ONNX Runtime Web, too."""
IR_VERSION = 9
"""The format of the file; readers of that operator set read it."""

Array: TypeAlias = npt.NDArray[np.generic]
Number: TypeAlias = float | int


@dataclasses.dataclass(frozen=True)
class Input:
    """A tensor that a caller gives."""

    kind: type[np.generic]
    shape: tuple[int | str, ...]
    """Sizes; a name stands for one that a caller chooses."""


@dataclasses.dataclass(frozen=True, eq=False)
class Value:
    """A tensor of a graph."""

    graph: "Graph"
    name: str
    kind: np.dtype[Any]

    def _with(self, operator: str, other: "Value | Number", *, turned: bool = False) -> "Value":
        right = other if isinstance(other, Value) else self.graph.number(other, self.kind)
        pair = (right, self) if turned else (self, right)
        return self.graph.op(operator, *pair)

    def __add__(self, other: "Value | Number") -> "Value":
        return self._with("Add", other)

    def __radd__(self, other: Number) -> "Value":
        return self._with("Add", other, turned=True)

    def __sub__(self, other: "Value | Number") -> "Value":
        return self._with("Sub", other)

    def __rsub__(self, other: Number) -> "Value":
        return self._with("Sub", other, turned=True)

    def __mul__(self, other: "Value | Number") -> "Value":
        return self._with("Mul", other)

    def __rmul__(self, other: Number) -> "Value":
        return self._with("Mul", other, turned=True)

    def __truediv__(self, other: "Value | Number") -> "Value":
        return self._with("Div", other)

    def __rtruediv__(self, other: Number) -> "Value":
        return self._with("Div", other, turned=True)

    def __matmul__(self, other: "Value") -> "Value":
        return self.graph.op("MatMul", self, other)

    def __gt__(self, other: "Value | Number") -> "Value":
        return self._compared("Greater", other)

    def __ge__(self, other: "Value | Number") -> "Value":
        return self._compared("GreaterOrEqual", other)

    def __lt__(self, other: "Value | Number") -> "Value":
        return self._compared("Less", other)

    def equals(self, other: "Value | Number") -> "Value":
        """Return where both are the same."""
        return self._compared("Equal", other)

    def _compared(self, operator: str, other: "Value | Number") -> "Value":
        right = other if isinstance(other, Value) else self.graph.number(other, self.kind)
        return self.graph.op(operator, self, right, kind=np.bool_)

    def __and__(self, other: "Value") -> "Value":
        return self.graph.op("And", self, other)

    def __invert__(self) -> "Value":
        return self.graph.op("Not", self)

    @property
    def T(self) -> "Value":
        """The transpose of a matrix."""
        return self.graph.op("Transpose", self, perm=[1, 0])

    def to(self, kind: npt.DTypeLike) -> "Value":
        """Return the same numbers in another type."""
        wanted = np.dtype(kind)
        if wanted == self.kind:
            return self
        code = helper.np_dtype_to_tensor_dtype(wanted)
        return self.graph.op("Cast", self, kind=wanted, to=code)

    def reshaped(self, *shape: int) -> "Value":
        """Return the same numbers in another shape; -1 stands for what is left."""
        return self.graph.op("Reshape", self, self.graph.integers(shape))

    def rows(self, places: "Value", axis: int = 0) -> "Value":
        """Return the rows at these places."""
        return self.graph.op("Gather", self, places, axis=axis)

    def columns(self, first: int, last: int) -> "Value":
        """Return the columns of a matrix from the first to before the last."""
        ends = (self.graph.integers([n]) for n in (first, last, 1))
        return self.graph.op("Slice", self, *ends)

    def sum(self, axis: int, *, keeps: bool = False) -> "Value":
        """Return sums along an axis, which stays with size 1 if asked for."""
        return self.graph.op("ReduceSum", self, self.graph.integers([axis]), keepdims=int(keeps))

    def mean(self) -> "Value":
        """Return the mean of a vector, in a vector of one."""
        return self.graph.op("ReduceMean", self, self.graph.integers([0]), keepdims=1)

    def clipped(self, least: float | None = None, most: float | None = None) -> "Value":
        """Return the numbers within these bounds."""
        bounds = [
            self.graph.nothing() if end is None else self.graph.number(end, self.kind)
            for end in (least, most)
        ]
        return self.graph.op("Clip", self, *bounds)


class Graph:
    """Values and the operations between them, in the order in which they are written."""

    def __init__(self, name: str, inputs: Mapping[str, Input]) -> None:
        self.name = name
        self.inputs = {n: Value(self, n, np.dtype(given.kind)) for n, given in inputs.items()}
        self._given = [_info(n, given.kind, given.shape) for n, given in inputs.items()]
        self._nodes: list[onnx.NodeProto] = []
        self._constants: dict[tuple[str, bytes], Value] = {}
        self._tensors: list[onnx.TensorProto] = []
        self._made = 0

    def op(
        self, operator: str, *inputs: Value, kind: npt.DTypeLike | None = None, **attributes: Any
    ) -> Value:
        """Return the first output of an operation.

        Args:
            kind: its type; if None, that of the first input.
        """
        found = self._named(np.dtype(kind) if kind is not None else inputs[0].kind)
        names = [value.name for value in inputs]
        self._nodes.append(helper.make_node(operator, names, [found.name], **attributes))
        return found

    def _named(self, kind: np.dtype[Any], label: str = "v") -> Value:
        self._made += 1
        return Value(self, f"{label}.{self._made}", kind)

    # Constants -----------------------------------------------------------------------------------

    def constant(self, array: npt.ArrayLike, label: str = "constant") -> Value:
        """Return an array as a value; equal ones are kept once."""
        found = np.array(array, order="C")  # which, unlike ascontiguousarray, keeps a scalar one
        key = (f"{found.dtype}{found.shape}", found.tobytes())
        if key not in self._constants:
            value = self._named(found.dtype, label)
            self._tensors.append(numpy_helper.from_array(found, value.name))
            self._constants[key] = value
        return self._constants[key]

    def number(self, number: Number, kind: npt.DTypeLike) -> Value:
        """Return a number as a value of a type."""
        return self.constant(np.array(number, kind), "number")

    def integers(self, numbers: Sequence[int]) -> Value:
        """Return whole numbers as a vector: shapes, axes and bounds."""
        return self.constant(np.array(numbers, np.int64), "integers")

    def nothing(self) -> Value:
        """Return what stands for an optional input that is not given."""
        return Value(self, "", np.dtype(np.float32))

    # Functions -----------------------------------------------------------------------------------

    def exp(self, value: Value) -> Value:
        """Return e to the power of each number."""
        return self.op("Exp", value)

    def relu(self, value: Value) -> Value:
        """Return max(number, 0)."""
        return self.op("Relu", value)

    def joined(self, *values: Value, axis: int = 0) -> Value:
        """Return values side by side along an axis."""
        return values[0] if len(values) == 1 else self.op("Concat", *values, axis=axis)

    def where(self, condition: Value, then: Value, otherwise: Value | Number) -> Value:
        """Return numbers of the one where the condition holds, of the other where not."""
        if not isinstance(otherwise, Value):
            otherwise = self.number(otherwise, then.kind)
        return self.op("Where", condition, then, otherwise, kind=then.kind)

    def added_at(self, size: int, places: Value, numbers: Value) -> Value:
        """Return a vector of a size with the sum of the numbers that belong to each place."""
        zeros = self.constant(np.zeros(size, numbers.kind), "zeros")
        return self.op("ScatterElements", zeros, places, numbers, axis=0, reduction="add")

    def solved(self, matrix_WW: Value, right_W: Value, width: int) -> Value:
        """Return (W,) x with matrix x = right, for a symmetric positive definite matrix.

        ONNX has no such operator: a loop eliminates the columns one after the other (Gauss and
        Jordan), in float64, which takes no exchange of rows for such a matrix.
        """
        kind = np.float64
        tensor = helper.np_dtype_to_tensor_dtype(np.dtype(kind))
        body = helper.make_graph(
            [
                helper.make_node("Identity", ["going"], ["goes_on"]),
                helper.make_node("Gather", ["left", "step"], ["column"], axis=1),
                helper.make_node("Gather", ["column", "step"], ["pivot"], axis=0),
                helper.make_node("Gather", ["left", "step"], ["row"], axis=0),
                helper.make_node("Div", ["row", "pivot"], ["scaled"]),
                helper.make_node("Gather", [self._eye(width).name, "step"], ["unit"], axis=0),
                helper.make_node("Sub", ["column", "unit"], ["factor"]),
                helper.make_node("Unsqueeze", ["factor", self.integers([1]).name], ["factor_W1"]),
                helper.make_node("Unsqueeze", ["scaled", self.integers([0]).name], ["scaled_1W"]),
                helper.make_node("Mul", ["factor_W1", "scaled_1W"], ["change"]),
                helper.make_node("Sub", ["left", "change"], ["left_next"]),
            ],
            "eliminate",
            [
                helper.make_tensor_value_info("step", TensorProto.INT64, []),
                helper.make_tensor_value_info("going", TensorProto.BOOL, []),
                helper.make_tensor_value_info("left", tensor, [width, width + 1]),
            ],
            [
                helper.make_tensor_value_info("goes_on", TensorProto.BOOL, []),
                helper.make_tensor_value_info("left_next", tensor, [width, width + 1]),
            ],
        )
        both = self.joined(matrix_WW.to(kind), right_W.to(kind).reshaped(width, 1), axis=1)
        steps, going = self.number(width, np.int64), self.number(1, np.bool_)
        done = self.op("Loop", steps, going, both, kind=kind, body=body)
        return done.columns(width, width + 1).reshaped(width).to(right_W.kind)

    def top(self, value_I: Value, length_1: Value) -> tuple[Value, Value]:
        """Return the places of the greatest numbers of a vector, the greatest first, and these
        numbers; of equal ones the first comes first."""
        numbers, places = self._named(value_I.kind), self._named(np.dtype(np.int64))
        names = [value_I.name, length_1.name]
        self._nodes.append(helper.make_node("TopK", names, [numbers.name, places.name], axis=0))
        return places, numbers

    def _eye(self, width: int) -> Value:
        return self.constant(np.eye(width), "eye")

    # The model -----------------------------------------------------------------------------------

    def model(
        self, outputs: Mapping[str, tuple[Value, Input]], metadata: Mapping[str, str]
    ) -> onnx.ModelProto:
        """Return the graph as a model that ONNX has checked.

        Args:
            outputs: values by the names that a caller asks for, and what they are.
            metadata: text that a reader finds in the model.
        """
        named = [
            helper.make_node("Identity", [value.name], [name])
            for name, (value, _) in outputs.items()
        ]
        found = helper.make_model(
            helper.make_graph(
                [*self._nodes, *named],
                self.name,
                self._given,
                [_info(name, about.kind, about.shape) for name, (_, about) in outputs.items()],
                self._tensors,
            ),
            opset_imports=[helper.make_opsetid("", OPSET)],
            producer_name="recmeta",
            ir_version=IR_VERSION,
        )
        helper.set_model_props(found, dict(metadata))
        onnx.checker.check_model(found, full_check=True)
        return found


def _info(name: str, kind: type[np.generic], shape: Sequence[int | str]) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(
        name, helper.np_dtype_to_tensor_dtype(np.dtype(kind)), list(shape)
    )
