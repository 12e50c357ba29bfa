"""An export's folder: written apart, put in place whole, and replaced only where an export of the same kind lies."""

import secrets
import shutil
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from ablations.mirror.exports.content import content_of
from cscdarts.errors import CannotWrite, UserError
from cscdarts.extras import require

#: Kind -> the module that writes it.
KINDS = {
    "tensorboard": "ablations.mirror.exports.event_files",
    "wandb": "ablations.mirror.exports.wandb_runs",
    "csv": "ablations.mirror.exports.csv_tables",
}
#: What marks a folder as an export, with its kind in it.
MARK = ".cscdarts-export"


def export(folders: Sequence[Path], kind: str, out: Path) -> int:
    """Write an export of some runs; returns how many.

    The run folders are the truth: an export holds what they hold now, and asking again replaces it whole.

    Args:
        folders: run folders.
        kind: one of `KINDS`.
        out: the folder; one that is there has to be empty or an export of this kind.

    Errors:
        UserError: no such kind; its package is missing; something else lies at `out`; a run cannot be read; the place
            cannot be written.
    """
    writer = _writer(kind)
    _require_place(out, kind)
    runs = [content_of(path) for path in folders]
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        made = out.with_name(f".{out.name}.making-{secrets.token_hex(4)}")
        made.mkdir()
        try:
            (made / MARK).write_text(f"{kind}\n")
            writer.write(runs, made)
            _put(made, out)
        finally:
            shutil.rmtree(made, ignore_errors=True)
    except OSError as error:
        raise CannotWrite("--out", out, error) from error
    return len(runs)


def _writer(kind: str) -> Any:
    if kind not in KINDS:
        raise UserError("--to", kind, ", ".join(KINDS), "Choose one of these.")
    writer = import_module(KINDS[kind])
    require(f"An export to {kind}", *writer.PACKAGES)
    return writer


def _require_place(out: Path, kind: str) -> None:
    if not out.exists() and not out.is_symlink():
        return
    mark = out / MARK
    found = mark.read_text(errors="replace").strip() if mark.is_file() else ""
    if out.is_dir() and not out.is_symlink() and (found == kind or not any(out.iterdir())):
        return
    what = f"an export to {found[:20]} lies there" if found in KINDS else "something else lies there"
    raise UserError("--out", str(out), f"a new folder, or an export to {kind} to replace", f"{what}; choose another.")


def _put(made: Path, out: Path) -> None:
    """Give the new folder its name; the old one is out of the way for a moment and then gone."""
    old = out.with_name(f".{out.name}.old-{secrets.token_hex(4)}")
    if out.exists():
        out.replace(old)
    try:
        made.replace(out)
    except OSError:
        if old.exists():
            old.replace(out)
        raise
    shutil.rmtree(old, ignore_errors=True)
