"""Augmentation of whole batches on the device, each image with its own draw."""

import torch
from torch import Tensor
from torch.nn import functional as F


def random_crop(images: Tensor, padding: int, generator: torch.Generator) -> Tensor:
    """Pad with 0 and crop back at an offset of each image's own.

    Args:
        images: (n, c, h, w), any type.
        padding: pixels added on each side.
    """
    if padding == 0:
        return images
    n, _, h, w = images.shape
    padded = F.pad(images, (padding, padding, padding, padding))
    offsets = torch.randint(0, 2 * padding + 1, (2, n, 1), generator=generator, device=images.device)
    rows = offsets[0] + torch.arange(h, device=images.device)
    columns = offsets[1] + torch.arange(w, device=images.device)
    batch = torch.arange(n, device=images.device)[:, None, None]
    # Indexing around the channel axis moves it last: (n, h, w, c), which is the channels_last layout of (n, c, h, w).
    return padded[batch, :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


def random_flip(images: Tensor, generator: torch.Generator) -> Tensor:
    """Mirror each image left to right with probability 1/2; images: (n, c, h, w)."""
    chosen = torch.rand(images.shape[0], generator=generator, device=images.device) < 0.5
    return torch.where(chosen[:, None, None, None], images.flip(3), images)


def cutout(images: Tensor, length: int, generator: torch.Generator) -> Tensor:
    """Set a square of each image to 0; its centre is uniform over the image and it is clipped at the border.

    As quark0/darts `cnn/utils.py:Cutout` (DeVries and Taylor 2017, arXiv 1708.04552).

    Args:
        images: (n, c, h, w), normalised.
        length: side of the square in pixels; 0 leaves the images alone.
    """
    if length == 0:
        return images
    n, _, h, w = images.shape
    half = length // 2
    centre_y = torch.randint(0, h, (n, 1, 1), generator=generator, device=images.device)
    centre_x = torch.randint(0, w, (n, 1, 1), generator=generator, device=images.device)
    y = torch.arange(h, device=images.device)[None, :, None]
    x = torch.arange(w, device=images.device)[None, None, :]
    inside = (y >= centre_y - half) & (y < centre_y + half) & (x >= centre_x - half) & (x < centre_x + half)
    return images.masked_fill(inside[:, None], 0.0)
