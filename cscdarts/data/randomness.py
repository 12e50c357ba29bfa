"""Counter-based randomness: every draw is a function of (seed, purpose, epoch, step), never of what was drawn before.

So a run that is killed and resumed, or spread over processes, draws exactly what an undisturbed one draws, and no
generator state has to be stored.
"""

import hashlib

import numpy as np
import torch


def derived_seed(seed: int, *keys: int | str) -> int:
    """A 63-bit seed: the first 8 bytes of SHA-256 over the seed and the keys."""
    digest = hashlib.sha256("/".join(str(part) for part in (seed, *keys)).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def generator(device: torch.device, seed: int, *keys: int | str) -> torch.Generator:
    """A torch generator on `device` for one purpose."""
    return torch.Generator(device=device).manual_seed(derived_seed(seed, *keys))


def numpy_generator(seed: int, *keys: int | str) -> np.random.Generator:
    """A NumPy generator for one purpose."""
    return np.random.default_rng(derived_seed(seed, *keys))


def permutation(n: int, seed: int, *keys: int | str) -> torch.Tensor:
    """A permutation of 0..n-1, shape (n,), int64, on the CPU: the same on every device and process."""
    return torch.randperm(n, generator=generator(torch.device("cpu"), seed, *keys))
