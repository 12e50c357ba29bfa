"""The formats of an export by name; each is one module with `recognises`, `card_text`, `write` and `read`."""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from types import MappingProxyType
from typing import TYPE_CHECKING, Protocol, cast

if TYPE_CHECKING:
    from torch import nn

    from cscdarts.export.classifier import Classifier


class FormatModule(Protocol):
    """What the module of a format gives."""

    def recognises(self, data: bytes) -> bool:
        """Whether a file's bytes are of this format, whoever wrote them."""

    def card_text(self, data: bytes) -> str | None:
        """The card's JSON, or None where the file has none."""

    def write(self, classifier: "Classifier") -> bytes:
        """The bytes of the file."""

    def read(self, data: bytes) -> "nn.Module":
        """The module from images to logits, with its card; a ValueError says why it cannot be had."""


@dataclass(frozen=True)
class Format:
    """A format.

    Attributes:
        name: on the command line; ending: that files usually have; module: where it lives.
        packages: that it needs beside those of the package itself.
    """

    name: str
    ending: str
    module: str
    packages: tuple[str, ...] = ()

    def load(self) -> FormatModule:
        """Its module, imported when it is asked for."""
        return cast(FormatModule, import_module(self.module))


_ALL = (
    Format("safetensors", ".safetensors", "cscdarts.export.safetensors_file"),
    Format("torch-export", ".pt2", "cscdarts.export.program_file"),
    Format("onnx", ".onnx", "cscdarts.export.onnx_file", ("onnx", "onnxscript", "onnxruntime")),
)

FORMATS: Mapping[str, Format] = MappingProxyType({one.name: one for one in _ALL})


def format_of(data: bytes) -> Format | None:
    """The format of a file's bytes, or None where it is none of these."""
    return next((one for one in FORMATS.values() if one.load().recognises(data)), None)
