"""Checkpoints: everything that moves, sealed with a hash, written by rename, read without executing anything.

A file is torch's own archive followed by a SHA-256 seal, so that a torn or foreign file is known before it is used;
then the previous one is taken.
"""

import hashlib
import io
import os
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

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


def files_of(path: Path) -> list[Path]:
    """The files of a checkpoint that are there, the newest first."""
    fresh = path.with_name(f"{path.stem}.fresh.pt")
    return [one for one in (fresh, path, previous_of(path)) if os.path.lexists(one)]


def load_checkpoint(
    path: Path, keys: Collection[str], device: torch.device, report: Callable[[str], None],
    form: Callable[[Mapping[str, Any]], str | None] = lambda state: None,
) -> Any | None:  # fmt: skip
    """The newest good checkpoint of a stage, or None where there is none.

    Args:
        keys: the keys that it may be sealed with.
        form: says what keeps a state from being taken up, if anything does.

    A torn or foreign file, or one with another state than ours, is reported in one sentence and the previous one used.

    Errors:
        UserError: files are there, but none is good.
    """
    problems: list[str] = []
    for candidate in files_of(path):
        try:
            state = _read(candidate, keys, device)
            if (problem := form(state)) is not None:
                raise ValueError(problem)
            return state
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
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        if path.is_symlink():
            raise ValueError("it is a link that leads nowhere") from None
        raise
    except OSError as error:
        raise ValueError(f"it cannot be read: {error.strerror}") from error
    cut = len(data) - len(_SEAL) - 32
    if cut <= 0 or data[cut : cut + len(_SEAL)] != _SEAL:
        raise ValueError("it has no seal, so it is torn or not ours")
    if hashlib.sha256(data[:cut]).digest() != data[cut + len(_SEAL) :]:
        raise ValueError("its content does not match its seal")
    try:
        state = torch.load(io.BytesIO(data[:cut]), map_location=device, weights_only=True)
    except MemoryError:
        raise
    except Exception as error:  # whatever its own format makes of other bytes, or of objects that it does not let in
        raise ValueError(f"its content is not a state ({str(error).strip().splitlines()[:1]})") from error
    if not isinstance(state, dict):
        raise ValueError(f"it holds a {type(state).__name__} in place of a state")
    if state.get("format") != _FORMAT:
        raise ValueError("it was written by another version of cscdarts")
    if keys is not None and state.get("hash") not in keys:
        stage = {"search": "search", "retrain": "retraining"}.get(str(state.get("stage")), "run")
        raise ValueError(f"it belongs to {stage} {state.get('hash')}")
    return state


def misfit(found: Any, wanted: Any, where: str = "it") -> str | None:
    """How a state differs in form from the one that is wanted: a missing key, a tensor of another shape, another type.

    Values are not compared. Mappings may hold more keys than wanted, so that a newer torch reads what an older wrote;
    those of tensors alone, a model's, may not.
    """
    if isinstance(wanted, Tensor):
        if not isinstance(found, Tensor):
            return f"{where} is no tensor"
        if found.shape != wanted.shape:
            return f"{where} has shape {tuple(found.shape)}, not {tuple(wanted.shape)}"
        same = found.is_floating_point() if wanted.is_floating_point() else found.dtype == wanted.dtype
        return None if same and found.layout == wanted.layout else f"{where} is of type {found.dtype}"
    if isinstance(wanted, Mapping):
        if not isinstance(found, Mapping):
            return f"{where} is no mapping"
        further = found.keys() - wanted.keys()
        if further and wanted and all(isinstance(value, Tensor) for value in wanted.values()):
            return f"{where} has {min(map(str, further))}, which the model has not"
        named = ((key, f"{where}.{key}" if where != "it" else str(key)) for key in wanted)
        return next(
            (
                f"{name} is missing" if key not in found else why
                for key, name in named
                if key not in found or (why := misfit(found[key], wanted[key], name))
            ),
            None,
        )
    if isinstance(wanted, list | tuple):
        if not isinstance(found, list | tuple) or len(found) != len(wanted):
            return f"{where} is no list of {len(wanted)}"
        pairs = zip(found, wanted, strict=True)
        return next((why for k, pair in enumerate(pairs) if (why := misfit(*pair, f"{where}[{k}]"))), None)
    if isinstance(wanted, int | float) and not isinstance(wanted, bool):
        number = isinstance(found, int | float) and not isinstance(found, bool)
        return None if number and (isinstance(found, int) or isinstance(wanted, float)) else f"{where} is no number"
    return None
