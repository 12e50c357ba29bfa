"""The safetensors format: weights and statistics by name, the card in the header; nothing in it is executed."""

import json
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError

from cscdarts.export.card import KEY, Card, read_card
from cscdarts.export.classifier import Classifier, exported_tensors, weights_sha256
from cscdarts.export.source import network_of

#: Longest header that the format allows.
_LONGEST_HEADER = 100_000_000


def recognises(data: bytes) -> bool:
    """Whether the bytes begin as such a file does: eight bytes of a length, then JSON."""
    return len(data) > 8 and data[8:9] == b"{" and 2 <= int.from_bytes(data[:8], "little") <= _LONGEST_HEADER


def card_text(data: bytes) -> str | None:
    """The card's JSON, or None where the file has none."""
    try:
        length = int.from_bytes(data[:8], "little")
        found: Any = json.loads(data[8 : 8 + length])["__metadata__"][KEY]
    except (ValueError, KeyError, TypeError):
        return None
    return found if isinstance(found, str) else None


def write(classifier: Classifier) -> bytes:
    """The file of a network: the same bytes for the same network and card."""
    # One entry of metadata: the library writes several in an order that changes from process to process.
    return safetensors.torch.save(exported_tensors(classifier.network), metadata={KEY: classifier.card.text()})


def read(data: bytes) -> Classifier:
    """The network of a file: a module of the card's configuration that takes over the file's weights.

    Errors:
        ValueError: the file is torn, or its weights are not those that its card speaks of; UserError: see `network_of`.
    """
    card = _card(data)
    try:
        tensors = safetensors.torch.load(data)
    except (SafetensorError, ValueError, KeyError) as error:
        raise ValueError(f"it is torn or has been changed ({' '.join(str(error).split())})") from None
    if weights_sha256(tensors) != card.weights_sha256:
        raise ValueError("its weights are not those that its card was written for")
    with torch.device("meta"):  # shapes alone: a card that lies about sizes costs no memory
        wanted = {name: tuple(value.shape) for name, value in network_of(card).state_dict().items()}
    if wanted != {name: tuple(value.shape) for name, value in tensors.items()}:
        raise ValueError("its weights are not those of the network that its card describes")
    network = network_of(card)
    network.load_state_dict(tensors)
    return Classifier(network, card)


def _card(data: bytes) -> Card:
    text = card_text(data)
    if text is None:
        raise ValueError("it holds no card")
    return read_card(text)
