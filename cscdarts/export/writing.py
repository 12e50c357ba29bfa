"""Writes an export: the file and its card, both or neither, and nothing that does not compute what the network does."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import torch

from cscdarts.errors import CannotWrite, OutsideFailure, UserError
from cscdarts.export.card import MARK, markdown
from cscdarts.export.classifier import Classifier
from cscdarts.export.formats import Format
from cscdarts.export.reading import is_export, read_module
from cscdarts.records.run_folder import write_atomic

#: Largest difference of a logit, over the largest logit or 1.
TOLERANCE = 1e-5
#: Images that an export is compared on: one alone, and several.
_COMPARED = (1, 3)


@dataclass(frozen=True)
class Written:
    """A written export.

    Attributes:
        path, card_path: the two files; sha256: of the first.
        difference: largest difference of a logit from the network's, over the largest logit or 1.
    """

    path: Path
    card_path: Path
    sha256: str
    difference: float


def card_path(path: Path) -> Path:
    """Where the card of an exported file lies."""
    return path.with_name(f"{path.name}.card.md")


def require_place(path: Path, force: bool) -> None:
    """Refuse a place where something else lies than an export.

    Args:
        force: whether another file may be replaced.

    Errors:
        UserError: as said.
    """
    for one, ours in ((path, is_export), (card_path(path), _is_card)):
        if one.is_dir():
            raise UserError("--out", str(one), "a file", "A folder has this name.")
        if one.exists() and not force and not ours(one):
            raise UserError(
                "--out", str(one), "a new file, or an export to replace",
                "Something else lies there; choose another name, or give --force to replace it.",
            )  # fmt: skip


def write_export(classifier: Classifier, form: Format, path: Path, force: bool = False) -> Written:
    """Write a network and its card.

    The bytes are read back and compared with the network on random images before anything is written.

    Args:
        force: whether a file that is no export may be replaced.

    Errors:
        UserError: see `require_place`; the format's package is missing; the network cannot be traced; the written
            logits are not the network's; the place cannot be written.
    """
    require_place(path, force)
    data = form.load().write(classifier)
    difference = compared(classifier, form, path, data)
    sha256 = hashlib.sha256(data).hexdigest()
    beside = card_path(path)
    before = beside.read_bytes() if beside.exists() else None
    try:
        write_atomic(beside, markdown(classifier.card, path.name, sha256))
        try:
            write_atomic(path, data)
        except BaseException:
            if before is None:
                beside.unlink(missing_ok=True)
            else:
                write_atomic(beside, before)
            raise
    except OSError as error:
        raise CannotWrite("--out", path, error) from error
    return Written(path, beside, sha256, difference)


def compared(classifier: Classifier, form: Format, path: Path, data: bytes) -> float:
    """The largest difference of a logit between the network and its export, over the largest logit or 1.

    A network that answers the same images differently each time (an operation of a user's own that draws) is not
    compared: NaN.

    Errors:
        UserError: it is above `TOLERANCE`.
    """
    exported, images = read_module(path, data), classifier.card.images
    draws, worst = torch.Generator().manual_seed(0), 0.0
    for count in _COMPARED:
        batch = torch.randn(count, images.channels, images.size, images.size, generator=draws)
        with torch.no_grad():
            wanted, again, found = classifier(batch), classifier(batch), exported(batch)
        if not torch.equal(wanted, again):
            return float("nan")
        worst = max(worst, float((found - wanted).abs().max() / wanted.abs().max().clamp_min(1)))
    if not worst <= TOLERANCE:
        raise OutsideFailure(
            f"Exporting as {form.name}", f"its logits differ from the network's by {worst:.1e}",
            "Choose another format, and report this.",
        )  # fmt: skip
    return worst


def _is_card(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(len(MARK)) == MARK.encode()
    except OSError:
        return False
