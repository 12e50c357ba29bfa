"""The ONNX format: a graph that any ONNX runtime computes, the card in its metadata.

torch's exporter (`torch.onnx.export`, packages `onnx` and `onnxscript`) makes the graph from the program that
`cscdarts.export.program_file` traces. The card follows the graph's bytes: two messages of protobuf, one after the
other, are read as one, so that the hash of the graph, which the card's neighbour names, can be tested.
"""

import hashlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from cscdarts.export.card import KEY, Card, read_card
from cscdarts.export.classifier import Classifier, ExportedNetwork
from cscdarts.export.program_file import require_images, traced
from cscdarts.extras import require

#: The entry of metadata that names length and SHA-256 of the graph.
_GRAPH = f"{KEY}.graph"
#: Numbers of the fields of ModelProto and StringStringEntryProto (onnx.proto) that are read here.
_METADATA, _NAME, _VALUE = 14, 1, 2
PACKAGES = ("onnx", "onnxscript", "onnxruntime")


class OnnxClassifier(ExportedNetwork):
    """An ONNX graph computed by onnxruntime on the CPU: images (n, c, h, w) -> logits (n, classes), no gradients.

    Args:
        session: an `onnxruntime.InferenceSession`; card: what is known of the network.
    """

    def __init__(self, session: Any, card: Card) -> None:
        super().__init__(card)
        self.session = session
        self.eval()

    def forward(self, images: Tensor) -> Tensor:
        """images: (n, c, h, w) float32, normalised, of the card's size -> logits (n, classes)."""
        require_images(images, self.card)
        (logits,) = self.session.run(["logits"], {"images": images.detach().cpu().contiguous().numpy()})
        return torch.from_numpy(logits).to(images.device)


def require_packages(*names: str) -> None:
    """Refuse to go on without the packages of the format.

    Errors:
        MissingExtra: one is missing; names the command that installs it.
    """
    require("The ONNX format", *names, extra="export")


def recognises(data: bytes) -> bool:
    """Whether the bytes are fields of protobuf that end with entries of metadata."""
    try:
        return any(number == _METADATA for number, _ in _fields(data))
    except ValueError:
        return False


def card_text(data: bytes) -> str | None:
    """The card's JSON, or None where the file has none."""
    try:
        return _metadata(data).get(KEY)
    except ValueError:
        return None


def write(classifier: Classifier) -> bytes:
    """The file of a network: opset 20, input `images`, output `logits`, any number of images.

    Errors:
        UserError: a package is missing, or the network cannot be traced or translated.
    """
    require_packages(*PACKAGES)
    import onnx

    program = traced(classifier)
    made = torch.onnx.export(
        program, (), dynamo=True, opset_version=20, input_names=["images"], output_names=["logits"], verbose=False
    )
    assert made is not None
    graph = _plain(made.model_proto)
    content: bytes = graph.SerializeToString(deterministic=True)
    told = {KEY: classifier.card.text(), _GRAPH: f"{len(content)} {hashlib.sha256(content).hexdigest()}"}
    entries = [onnx.StringStringEntryProto(key=key, value=value) for key, value in told.items()]
    tail: bytes = onnx.ModelProto(metadata_props=entries).SerializeToString(deterministic=True)
    return content + tail


def read(data: bytes) -> OnnxClassifier:
    """The network of a file.

    Errors:
        ValueError: the file is torn, or its graph is not the one that its card was written for; UserError: onnxruntime
            is missing.
    """
    try:
        told = _metadata(data)
        length, _, sha256 = told[_GRAPH].partition(" ")
        card = read_card(told[KEY])
        whole = hashlib.sha256(data[: int(length)]).hexdigest() == sha256
    except KeyError:
        raise ValueError("it holds no card") from None
    if not whole:
        raise ValueError("its graph is not the one that its card was written for")
    require_packages("onnxruntime")
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors: its remarks on the graph are for its makers
    try:
        session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # its errors have no class in common
        raise ValueError(f"onnxruntime does not read it ({' '.join(str(error).split())[:200]})") from None
    return OnnxClassifier(session, card)


def _plain(model: Any) -> Any:
    """The model without what its making left in it: names of Python classes and rewriting rules, node by node."""
    graph = model.graph
    for part in (*graph.node, *graph.value_info, *graph.input, *graph.output, *graph.initializer, graph):
        if hasattr(part, "metadata_props"):
            del part.metadata_props[:]
        part.doc_string = ""
    del graph.value_info[:]
    for value in (*graph.input, *graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = "n"
    return model


def _metadata(data: bytes) -> dict[str, str]:
    """The model's entries of metadata."""
    entries = [dict(_fields(entry)) for number, entry in _fields(data) if number == _METADATA]
    return {entry[_NAME].decode(): entry[_VALUE].decode() for entry in entries if {_NAME, _VALUE} <= entry.keys()}


def _fields(data: bytes) -> Iterator[tuple[int, bytes]]:
    """(number, content) of each field of a protobuf message; numbers in the message have empty content.

    Errors:
        ValueError: the bytes are no such message.
    """
    at = 0
    while at < len(data):
        tag, at = _varint(data, at)
        number, kind = tag >> 3, tag & 7
        if number == 0 or kind not in (0, 1, 2, 5):
            raise ValueError("no message of protobuf")
        if kind == 0:
            _, at = _varint(data, at)
            yield number, b""
            continue
        length = {1: 8, 5: 4}.get(kind)
        if length is None:
            length, at = _varint(data, at)
        if at + length > len(data):
            raise ValueError("the message is cut off")
        yield number, data[at : at + length]
        at += length


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """The number that begins at a place, seven bits a byte, and the place behind it."""
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(data):
            break
        byte = data[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, at
    raise ValueError("no number of protobuf")
