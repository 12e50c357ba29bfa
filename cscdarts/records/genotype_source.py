"""A genotype from wherever a user has it: a known name, its text, a file, standard input, a run folder of ours or of
others."""

import re
import sys
from collections.abc import Callable
from pathlib import Path

from cscdarts.errors import MissingFile, UserError
from cscdarts.records.run_folder import read_json
from cscdarts.spaces.genotype import parse_genotype
from cscdarts.spaces.reading.clean import decode
from cscdarts.spaces.reading.read import Reading, read_text

#: Logs of a search have a few megabytes; what is far larger is no log.
LARGEST_MIB = 64
_PICKED = re.compile(r"(?P<path>.+):(?P<pick>\w+)", re.DOTALL)
#: Text that can be meant only as a path.
_PATH = re.compile(r"[^\s|()\[\]{}]*(?:[/\\][^\s|()\[\]{}]*|\.(?:txt|log|json|jsonl|ya?ml|py|ipynb|md|tex|csv|out))")


def read_genotype(source: str, by_index: Callable[[int], str] | None = None) -> Reading:
    """Read a genotype.

    Args:
        source: a known name; the text itself; `FILE`, `FILE:NAME` or `FILE:LINE`; `-` for standard input; a run folder
            of ours (its derived cell) or of a repository that writes `log.txt` (the last cell in it).
        by_index: architecture string of an index in the official order of NAS-Bench-201; without it indices are
            refused.

    Errors:
        UserError: there is no such file, no cell in it, or a cell that cannot be built; says where and what is allowed.
    """
    if source.strip() == "-":
        data = sys.stdin.buffer.read(LARGEST_MIB * 2**20 + 1)
        return _from_bytes(data, "standard input", "", by_index)
    path = existing_path(source)
    if path is not None:
        return _from_folder(path) if path.is_dir() else _from_file(path, "", by_index)
    picked = _PICKED.fullmatch(source)
    if picked is not None and (path := existing_path(picked["path"])) is not None and path.is_file():
        return _from_file(path, picked["pick"], by_index)
    if _PATH.fullmatch(source.strip()):
        raise MissingFile(source, "Check the path.")
    return read_text(source, by_index=by_index)


def existing_path(text: str) -> Path | None:
    """The path that a word of the command line is, or None where no such file or folder is there."""
    path = Path(text)
    try:
        return path if text.strip() and path.exists() else None
    except (OSError, ValueError):  # too long for a file name, or with signs that none may have
        return None


def _from_folder(folder: Path) -> Reading:
    found = read_json(folder / "genotype.json")
    if isinstance(found, dict) and isinstance(found.get("text"), str):
        space = found.get("space")
        return Reading(parse_genotype(found["text"], space if isinstance(space, str) else None))
    log = folder / "log.txt"
    if log.is_file() and not (folder / "config.json").exists():
        return _from_file(log, "", None)
    raise UserError(
        "genotype", str(folder), "a run folder with genotype.json, or with a log.txt that prints genotypes",
        "Its search has not finished, or it is another folder.",
    )  # fmt: skip


def _from_file(path: Path, pick: str, by_index: Callable[[int], str] | None) -> Reading:
    try:
        with path.open("rb") as file:
            data = file.read(LARGEST_MIB * 2**20 + 1)
    except OSError as error:
        raise UserError("genotype", str(path), "a file that can be read", f"{error.strerror}.") from error
    return _from_bytes(data, str(path), pick, by_index)


def _from_bytes(data: bytes, name: str, pick: str, by_index: Callable[[int], str] | None) -> Reading:
    if len(data) > LARGEST_MIB * 2**20:
        raise UserError(
            name,
            f"more than {LARGEST_MIB} MiB",
            f"up to {LARGEST_MIB} MiB",
            "Give the part that prints the genotype, by grep Genotype.",
        )
    return read_text(decode(data, name), name, pick, by_index)
