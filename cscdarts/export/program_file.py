"""The torch-export format: the network traced to a program of ATen operators, the card beside the program.

It runs wherever torch does, without this package: `torch.export.load(FILE).module()`. torch's reader trusts its files
(it unpickles, and compiles text of theirs), so what is read here is looked through first, see `_require_plain`.
"""

import io
import json
import re
import zipfile
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram
from torch.export.pt2_archive import PT2ArchiveReader

from cscdarts.errors import OutsideFailure, UserError
from cscdarts.export.card import KEY, Card, read_card
from cscdarts.export.classifier import Classifier, weights_sha256

_EXTRA = f"{KEY}.json"
#: The records of an archive as `write` makes it; an archive with any other is not read.
_RECORDS = re.compile(
    r"archive_format|archive_version|byteorder|version|\.data/(?:version|serialization_id)|models/model\.json"
    r"|data/weights/(?:model_weights_config\.json|weight_\d+)|data/sample_inputs/model\.pt"
    rf"|data/constants/(?:model_constants_config\.json|tensor_\d+)|extra/{re.escape(_EXTRA)}"
)
#: Operators that a program may call: those of ATen on tensors, without the one that opens files.
_OPERATOR = re.compile(r"torch\.ops\.aten\.(?!from_file\b)\w+\.\w+|_operator\.getitem")
_NAME = re.compile(r"[\w.+ -]*")
_SYMBOL = re.compile(r"Symbol\('s\d+', (?:positive=True, integer=True|integer=True, positive=True)\)|\bs\d+\b")
_SUM = re.compile(r"[\d+\-*(), ]*")
#: Arguments that could hold functions or objects.
_REFUSED = ("as_operator", "as_graph", "as_custom_obj")
_TREES = ("in_spec", "out_spec")


class ProgramClassifier(nn.Module):
    """A traced program: images (n, c, h, w) -> logits (n, classes), in evaluation mode for good.

    Args:
        program: as `torch.export.load` gives it; card: what is known of the network.
    """

    def __init__(self, program: ExportedProgram, card: Card) -> None:
        super().__init__()
        self.card = card
        self.program = program.module(check_guards=False)
        self.training = False

    def train(self, mode: bool = True) -> "ProgramClassifier":
        """Stay in evaluation mode: the program's normalisations are traced with their running statistics."""
        return self

    def forward(self, images: Tensor) -> Tensor:
        """images: (n, c, h, w) float32, normalised, of the card's size -> logits (n, classes)."""
        require_images(images, self.card)
        logits: Tensor = self.program(images)
        return logits


def require_images(images: Tensor, card: Card) -> None:
    """Refuse images that a network of fixed form does not take.

    Errors:
        UserError: another shape or type.
    """
    wanted = (card.images.channels, card.images.size, card.images.size)
    if images.ndim != 4 or tuple(images.shape[1:]) != wanted or images.dtype != torch.float32 or not len(images):
        raise UserError(
            "images", f"{tuple(images.shape)} {str(images.dtype).removeprefix('torch.')}",
            f"(n, {', '.join(map(str, wanted))}) float32, n at least 1", "The program is traced for this form.",
        )  # fmt: skip


def traced(classifier: Classifier) -> ExportedProgram:
    """The network as a program of ATen operators for any number of images, without a trace of where it was made.

    Errors:
        UserError: an operation of the user's own cannot be traced.
    """
    images = classifier.card.images
    example = torch.zeros(2, images.channels, images.size, images.size)
    shapes = {"images": {0: Dim("n", min=1)}}
    try:
        with torch.no_grad():
            program = torch.export.export(classifier, (example,), dynamic_shapes=shapes)
    except Exception as error:
        raise OutsideFailure(
            "Tracing the network", " ".join(str(error).split())[:300] or type(error).__name__,
            "--format safetensors needs no tracing.",
        ) from error  # fmt: skip
    for node in program.graph.nodes:  # lines of source files, as they lie on this machine
        for key in ("stack_trace", "source_fn_stack", "from_node", "torch_fn", "nn_module_stack", "custom"):
            node.meta.pop(key, None)
    return program


def recognises(data: bytes) -> bool:
    """Whether the bytes begin as a zip archive does."""
    return data.startswith(b"PK\x03\x04")


def card_text(data: bytes) -> str | None:
    """The card's JSON, or None where the file has none."""
    try:
        return PT2ArchiveReader(io.BytesIO(data)).read_string(f"extra/{_EXTRA}")
    except (RuntimeError, AssertionError, UnicodeDecodeError):
        return None


def write(classifier: Classifier) -> bytes:
    """The file of a network: `torch.export.save` with the card as `extra_files`.

    Errors:
        UserError: see `traced`.
    """
    buffer = io.BytesIO()
    torch.export.save(traced(classifier), buffer, extra_files={_EXTRA: classifier.card.text()})
    return buffer.getvalue()


def read(data: bytes) -> ProgramClassifier:
    """The network of a file.

    Errors:
        ValueError: the file is torn, holds more than `write` puts into it, or weights that its card does not speak of.
    """
    try:
        archive = PT2ArchiveReader(io.BytesIO(data))
        names = archive.get_file_names()
    except (RuntimeError, AssertionError):
        raise ValueError("it is torn, or no archive of torch.export") from None
    if f"extra/{_EXTRA}" not in names:
        raise ValueError("it holds no card")
    try:
        card = read_card(archive.read_string(f"extra/{_EXTRA}"))
        _require_plain(data, archive, names)
        program = torch.export.load(io.BytesIO(data))
    except ValueError:
        raise
    except Exception as error:  # torch's reader has errors of every class
        raise ValueError(f"it is torn or has been changed ({' '.join(str(error).split())[:200]})") from None
    weights = {name.removeprefix("network."): value for name, value in program.state_dict.items()}
    if weights_sha256(weights) != card.weights_sha256:
        raise ValueError("its weights are not those that its card was written for")
    return ProgramClassifier(program, card)


def _require_plain(data: bytes, archive: PT2ArchiveReader, names: list[str]) -> None:
    """Refuse an archive of anything but raw tensors, calls of ATen operators, and names.

    torch's reader unpickles tensors and objects that a file declares as pickled, evaluates the text of sizes, calls
    what a node names, and writes names into code that it compiles. So records, operators, sizes and names are held to
    what `write` makes; the example images, which it stores pickled, have to pass torch's reader of plain tensors.

    Errors:
        ValueError: says what is there.
    """
    other = [name for name in names if not _RECORDS.fullmatch(name)]
    with zipfile.ZipFile(io.BytesIO(data)) as zipped:  # the form of torch 2.7, which lies at the top of the archive
        other += [name for name in zipped.namelist() if "/" not in name]
        if zipped.testzip() is not None:
            raise ValueError("its records do not match their checksums, so it is torn")
    if other:
        raise ValueError(f"it holds {other[0]!r}, which no export writes")
    for kind in ("weights", "constants"):
        for name, held in _json(archive, f"data/{kind}/model_{kind}_config.json")["config"].items():
            if held["use_pickle"] or not re.fullmatch(r"(?:weight|tensor)_\d+", held["path_name"]):
                raise ValueError(f"it holds the pickled object {name!r}, which no export writes")
            if not _NAME.fullmatch(name):
                raise ValueError(f"it holds a tensor with the name {name[:80]!r}")
    torch.load(io.BytesIO(archive.read_bytes("data/sample_inputs/model.pt")), weights_only=True)
    for key, text in _strings(_json(archive, "models/model.json")):
        if not _harmless(key, text):
            raise ValueError(f"its program holds {text[:80]!r}, which no export writes")


def _json(archive: PT2ArchiveReader, name: str) -> Any:
    return json.loads(archive.read_string(name))


def _strings(value: Any, key: str = "") -> Iterator[tuple[str, str]]:
    """(key, text) of all texts in a JSON value; of keys and of what must not be there the key is ''."""
    if isinstance(value, dict):
        for name, held in value.items():
            yield "", "(an object)" if name in _REFUSED else name
            yield from _strings(held, name)
    elif isinstance(value, list):
        for held in value:
            yield from _strings(held, key)
    elif isinstance(value, str):
        yield key, value


def _harmless(key: str, text: str) -> bool:
    if key == "target":
        return _OPERATOR.fullmatch(text) is not None
    if key == "expr_str":
        return _SUM.fullmatch(_SYMBOL.sub("", text)) is not None
    if key in _TREES:
        types = [held for name, held in _strings(json.loads(text)) if name == "type"]
        return all(one in ("builtins.tuple", "builtins.list", "builtins.dict") for one in types)
    if key in ("guards_code", "metadata"):
        return False
    return _NAME.fullmatch(text) is not None
