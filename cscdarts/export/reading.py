"""An exported network from its file."""

from pathlib import Path
from typing import TYPE_CHECKING

from cscdarts.errors import BrokenFile, MissingFile, UserError
from cscdarts.export.formats import format_of

if TYPE_CHECKING:
    from torch import nn

_WANTED = "a network that cscdarts export wrote"


def load(path: str | Path) -> "nn.Module":
    """The network of a file that `cscdarts export` wrote, in evaluation mode on the CPU.

    The module maps images (n, c, h, w), float32 and normalised, to logits (n, classes); its `card` says what is known
    of it (`cscdarts.export.card.Card`). The format is told by the file's content:

    * safetensors: the discrete network itself, which can be trained on and moved to a device. Names and numbers are
      read, nothing is executed.
    * torch-export: the traced program, for the image size that it was traced for. torch's own reader would unpickle and
      compile what a file tells it to, so the archive is first held to what an export consists of: raw tensors, calls of
      ATen operators, and plain names. What passes can compute on tensors and nothing else.
    * ONNX: the graph in onnxruntime, on the CPU, without gradients. It is read by onnxruntime's parser, without
      operators or data from other files.

    A card states what the file's maker wrote into it; its hashes tell a torn or altered file from a whole one, and
    prove no origin.

    Errors:
        UserError: there is no such file; it is torn, changed, or none of ours; a package that the format needs is
            missing; the space of its cell is not known here.
    """
    path = Path(path)
    if path.is_dir():
        raise UserError("path", str(path), "a file that cscdarts export wrote", "This is a folder.")
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise MissingFile(path, "Name a file that cscdarts export wrote.") from None
    except OSError as error:
        raise BrokenFile(path, str(error.strerror or error), _WANTED, "Check the path.") from None
    return read_module(path, data)


def read_module(path: Path, data: bytes) -> "nn.Module":
    """The network of a file's bytes; see `load`."""
    form = format_of(data)
    if form is None:
        raise BrokenFile(
            path, "it is empty" if not data else "it is in none of the formats", _WANTED, "Name another file."
        )
    try:
        return form.load().read(data)
    except ValueError as error:
        raise BrokenFile(path, str(error), _WANTED, "Export it again, or name another file.") from None


def is_export(path: Path) -> bool:
    """Whether a file holds a card, and so is an export, whole or not."""
    try:
        data = path.read_bytes()
    except OSError:
        return False
    form = format_of(data)
    return form is not None and form.load().card_text(data) is not None
