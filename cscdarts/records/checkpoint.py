"""Checkpoints: everything that moves, sealed with a hash, written by rename, read without executing anything.

A file is torch's own archive followed by a SHA-256 seal, so that a torn or foreign file is known before it is used;
then the previous one is taken.
"""

import hashlib
import io
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

import torch

from cscdarts.errors import BrokenFile
from cscdarts.records.run_folder import write_atomic

_SEAL = b"cscdarts-seal-1:"
#: Raise when what a checkpoint holds changes: an older one is then refused, not misread.
_FORMAT = 1


def save_checkpoint(path: Path, state: Mapping[str, Any]) -> None:
    """Write a checkpoint; the one before stays beside it as `NAME.previous.pt` until the next."""
    fresh = path.with_name(f"{path.stem}.fresh.pt")
    write_sealed(fresh, state)
    if path.exists():
        path.replace(previous_of(path))
    fresh.replace(path)


def write_sealed(path: Path, state: Mapping[str, Any]) -> None:
    """Write a state with its seal under one name."""
    buffer = io.BytesIO()
    torch.save({**state, "format": _FORMAT}, buffer)
    payload = buffer.getvalue()
    write_atomic(path, payload + _SEAL + hashlib.sha256(payload).digest())


def previous_of(path: Path) -> Path:
    """Where the checkpoint before this one lies."""
    return path.with_name(f"{path.stem}.previous.pt")


def load_checkpoint(
    path: Path, keys: Collection[str], device: torch.device, report: Callable[[str], None]
) -> Any | None:
    """The newest good checkpoint of a stage, or None where there is none.

    Args:
        keys: the keys that it may be sealed with.

    A torn or foreign file is reported in one sentence and the previous one used.

    Errors:
        UserError: files are there, but none is good.
    """
    fresh = path.with_name(f"{path.stem}.fresh.pt")
    candidates = [candidate for candidate in (fresh, path, previous_of(path)) if candidate.exists()]
    problems: list[str] = []
    for candidate in candidates:
        try:
            return _read(candidate, keys, device)
        except ValueError as error:
            problems.append(f"{candidate.name}: {error}")
            report(f"checkpoint {candidate.name} is not used: {error}")
    if problems:
        raise BrokenFile(
            str(path.parent), "; ".join(problems), "a checkpoint this run wrote", "Move the files away to start again."
        )
    return None


def read_state(path: Path, device: torch.device) -> Any:
    """The content of a sealed checkpoint of any run.

    Errors:
        UserError: the file is missing, torn or foreign.
    """
    try:
        return _read(path, None, device)
    except (ValueError, FileNotFoundError) as error:
        raise BrokenFile(str(path), str(error), "a checkpoint of cscdarts", "Run the search first.") from error


def _read(path: Path, keys: Collection[str] | None, device: torch.device) -> Any:
    data = path.read_bytes()
    cut = len(data) - len(_SEAL) - 32
    if cut <= 0 or data[cut : cut + len(_SEAL)] != _SEAL:
        raise ValueError("it has no seal, so it is torn or not ours")
    if hashlib.sha256(data[:cut]).digest() != data[cut + len(_SEAL) :]:
        raise ValueError("its content does not match its seal")
    state = torch.load(io.BytesIO(data[:cut]), map_location=device, weights_only=True)
    if state.get("format") != _FORMAT:
        raise ValueError("it was written by another version of cscdarts")
    if keys is not None and state.get("hash") not in keys:
        stage = {"search": "search", "retrain": "retraining"}.get(str(state.get("stage")), "run")
        raise ValueError(f"it belongs to {stage} {state.get('hash')}")
    return state
