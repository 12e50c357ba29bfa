"""ONNX models of people we do not know, read within bounds: a size, a list of operators, nothing outside of the file.

A graph may hold trees, support vectors and fully connected layers, which is what surrogates are made of. Every map in
it is (cells, width) with a width that the file itself spells out, so that no small file asks for much memory: no
operator adds a dimension, and only a matrix product takes a matrix of the file. There are no loops, no branches, no
functions, no operators of others and no data in other files.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.tabular.files import plain_size
from cscdarts.errors import BrokenFile, MissingFile
from cscdarts.extras import require

MOST_BYTES, MOST_NODES = 256 * 2**20, 10_000
_PRODUCTS = frozenset({"Gemm", "MatMul"})
_PLAIN = frozenset(
    (
        "Abs", "Add", "BatchNormalization", "Cast", "Clip", "Constant", "Div", "Elu", "Erf", "Exp", "Flatten", "Gelu",
        "Identity", "LayerNormalization", "LeakyRelu", "Log", "Max", "Mean", "Min", "Mul", "Neg", "Pow", "Relu", "Selu",
        "Sigmoid", "Softplus", "Sqrt", "Squeeze", "Sub", "Sum", "Tanh",
    )
)  # fmt: skip
_LEARNT = frozenset(
    ("LinearRegressor", "Normalizer", "SVMRegressor", "Scaler", "TreeEnsemble", "TreeEnsembleRegressor")
)
#: Domain -> its operators that may occur.
OPERATORS = {"": _PRODUCTS | _PLAIN, "ai.onnx": _PRODUCTS | _PLAIN, "ai.onnx.ml": _LEARNT}
_WANTED = "an ONNX model of trees, support vectors or fully connected layers"


def read_model(path: Path) -> tuple[Any, Any, bytes]:
    """An `onnx.ModelProto`, an `onnxruntime.InferenceSession` of it, and the file's bytes.

    Errors:
        UserError: the packages are not installed, nothing is there, or the file is no such model; it has not been run.
    """
    require("A surrogate of NAS-Bench-301", "onnx", "onnxruntime", extra="nasbench301")
    import onnx
    import onnxruntime

    try:
        size = plain_size(path)
    except FileNotFoundError:
        raise MissingFile(path, f"Name {_WANTED}.") from None
    if size > MOST_BYTES:
        raise BrokenFile(path, f"it has {size:,} bytes", f"{_WANTED}, at most {MOST_BYTES:,} bytes", "Name another.")
    data = path.read_bytes()
    try:
        model = onnx.load_model_from_string(data)
    except Exception as error:  # of protobuf, which onnx brings along
        raise _broken(path, f"it is no ONNX model ({type(error).__name__})") from None
    _require_bounded(path, model)
    options = onnxruntime.SessionOptions()
    options.log_severity_level, options.intra_op_num_threads, options.inter_op_num_threads = 3, 1, 1
    try:
        session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # its errors have no class in common
        raise _broken(path, f"onnxruntime does not read it ({' '.join(str(error).split())[:200]})") from None
    return model, session, data


def _broken(path: Path, why: str) -> BrokenFile:
    return BrokenFile(path, why, _WANTED, "Export it again, or name another.")


def _require_bounded(path: Path, model: Any) -> None:
    graph = model.graph
    if model.functions or model.training_info:
        raise _broken(path, "it holds functions or training steps")
    if not 0 < len(graph.node) <= MOST_NODES:
        raise _broken(path, f"it has {len(graph.node):,} nodes, not 1 to {MOST_NODES:,}")
    matrices = set()
    for name, tensor in _tensors(graph):
        if tensor.external_data or tensor.data_location:
            raise _broken(path, f"the tensor {name[:60]} lies in another file")
        if len(tensor.dims) > 2:
            raise _broken(path, f"the tensor {name[:60]} has {len(tensor.dims)} dimensions, more than 2")
        if sum(side > 1 for side in tensor.dims) > 1:
            matrices.add(name)
    given = {name for name, _ in _tensors(graph)}
    for node in graph.node:
        if node.op_type not in OPERATORS.get(node.domain, frozenset()):
            its = f"{node.domain}.{node.op_type}" if node.domain else node.op_type
            raise _broken(
                path, f"its operator {its[:60]} is not one of {', '.join(sorted(_PRODUCTS | _LEARNT))} and ..."
            )
        if any(attribute.g.node or attribute.graphs for attribute in node.attribute):
            raise _broken(path, f"its operator {node.op_type} holds a graph")
        product = node.op_type in _PRODUCTS
        if product and (len(node.input) < 2 or node.input[1] not in given):
            raise _broken(path, f"its {node.op_type} multiplies two maps")
        wrong = [name for place, name in enumerate(node.input) if name in matrices and not (product and place == 1)]
        if wrong:
            raise _broken(path, f"its {node.op_type} takes the matrix {wrong[0][:60]} element by element")


def _tensors(graph: Any) -> Iterator[tuple[str, Any]]:
    """All constant tensors by name: initialisers and values of `Constant`, and those in other attributes."""
    for tensor in graph.initializer:
        yield tensor.name, tensor
    for sparse in graph.sparse_initializer:
        yield sparse.values.name, sparse.values
    for node in graph.node:
        name = node.output[0] if node.op_type == "Constant" and node.output else node.name or node.op_type
        for attribute in node.attribute:
            for tensor in (*((attribute.t,) if attribute.HasField("t") else ()), *attribute.tensors):
                yield name, tensor
            for sparse in (*((attribute.sparse_tensor,) if attribute.HasField("sparse_tensor") else ()),):
                yield name, sparse.values
