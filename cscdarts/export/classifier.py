"""What an export is and what it gives back: a module from images to logits, with its card."""

import hashlib
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from cscdarts.export.card import Card
from cscdarts.models.network import Network


class Classifier(nn.Module):
    """A network without auxiliary head, in evaluation mode: images (n, c, h, w) -> logits (n, classes).

    Args:
        network: a discrete network; it is changed: its auxiliary head goes.
        card: what is known of it.
    """

    def __init__(self, network: Network, card: Card) -> None:
        super().__init__()
        self.network, self.card = network, card
        network.auxiliary, network.auxiliary_after = None, -1
        network.dropper.probability, network.dropper.generator = 0.0, None
        self.eval()

    def forward(self, images: Tensor) -> Tensor:
        """images: (n, c, h, w) float32, normalised -> logits (n, classes)."""
        logits: Tensor = self.network(images)[0]
        return logits


def exported_tensors(network: nn.Module) -> dict[str, Tensor]:
    """Parameters and running statistics by name, contiguous on the CPU, no two in one memory."""
    return {name: value.detach().cpu().contiguous().clone() for name, value in network.state_dict().items()}


def weights_sha256(tensors: Mapping[str, Tensor]) -> str:
    """The SHA-256 of all weights and statistics, by name: name, type, shape and values of each."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes() if tensor.numel() else b"")
    return digest.hexdigest()
