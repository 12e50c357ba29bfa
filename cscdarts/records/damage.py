"""What is damaged in a run's folders, and the way out: a damaged file is set aside, never deleted, and what it said is
made again. No torch.

Damage is the standing of one run. Nothing is computed or written in its folder until the file is gone, so that a
finished run's good files outlive a bad one beside them.
"""

import os
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from cscdarts.errors import BrokenFile, UserError
from cscdarts.records.forms import FORMS
from cscdarts.records.run_folder import RunFolder, read_record, write_json
from cscdarts.records.unchanged import Unchanged
from cscdarts.settings.config import RunConfig

#: Where files that were set aside lie, beside their place.
ASIDE = "damaged"
#: Files of a run folder and of a stage's folder that have no form of their own here.
_PLAIN = frozenset(
    ("claim", "requeued", "heartbeat", "log.txt", "metrics.jsonl", "search-metrics.jsonl",
     "retrain-metrics.jsonl", "alphas.jsonl", "checkpoint.pt", "checkpoint.previous.pt", "checkpoint.fresh.pt",
     "retrain.pt", "retrain.previous.pt", "retrain.fresh.pt")
)  # fmt: skip
_OURS = _PLAIN | FORMS.keys()
#: Files that may lie in a run folder before its config does: a start that came no further.
BEFORE_CONFIG = frozenset(("claim", "environment.json", "failure.json", "heartbeat", "log.txt", "requeued"))
#: Of a folder's files those with a form, config and keys first: they say where the others lie.
_FORMED = ("config.json", *(name for name in FORMS if name not in ("config.json", "grid.json")))


@dataclass(frozen=True)
class Damage:
    """One damaged file or folder.

    Attributes:
        path: where it is; reason: what is wrong with it, as a clause.
    """

    path: Path
    reason: str

    def __str__(self) -> str:
        return f"{self.path.name} ({self.reason})"


def find_damage(folder: RunFolder) -> Damage | None:
    """The first damage in a run's folders; None where all files that are there can be read."""
    return next(_damages(folder), None)


def require_sound(folder: RunFolder) -> None:
    """Make sure that nothing in a run's folders is damaged.

    Errors:
        BrokenFile: something is; nothing was written.
    """
    damage = find_damage(folder)
    if damage is not None:
        raise BrokenFile(
            damage.path,
            damage.reason,
            "as cscdarts wrote it",
            "Nothing was written; move it away, or choose another folder.",
        )


def _damages(folder: RunFolder) -> Iterator[Damage]:
    # Without a config only what a start leaves is known to be ours; all else is somebody's (see `ownership`).
    begun = os.path.lexists(folder.path / "config.json")
    yield from _in_folder(folder.path, _OURS if begun else BEFORE_CONFIG)
    path = folder.path / "keys.json"
    if os.path.lexists(path) and not path.is_file():
        yield Damage(path, _kind(path))
        return
    try:
        keys = folder.keys()
    except UserError as error:
        yield Damage(path, _reason(error))
        return
    try:
        _config(folder.path / "config.json")
    except UserError as error:
        yield Damage(folder.path / "config.json", " ".join(str(error).split()))
    if keys is None:
        return
    for place in folder.search_folders():
        yield from _in_folder(place)
    if keys["retrain"] is not None:
        yield from _in_folder(folder.stage_folder("retrain"))


def _in_folder(path: Path, names: Collection[str] = _OURS) -> Iterator[Damage]:
    """Damage in one folder, itself included; which of our names are there is told by one listing."""
    try:
        with os.scandir(path) as entries:
            found = {entry.name: entry for entry in entries if entry.name in names}
    except FileNotFoundError:
        if path.is_symlink():
            yield Damage(path, "it is a link that leads nowhere")
        return
    except NotADirectoryError:
        if os.path.lexists(path):
            yield Damage(path, "it is no folder")
        return
    except OSError as error:
        yield Damage(path, f"it cannot be listed: {error.strerror}")
        return
    for name, entry in sorted(found.items()):
        if not _is_file(entry):
            yield Damage(path / name, _kind(path / name))
    for name in _FORMED:
        if name in found:
            try:
                _well_formed(path / name)
            except UserError as error:
                yield Damage(path / name, _reason(error))


def _is_file(entry: "os.DirEntry[str]") -> bool:
    try:
        return entry.is_file()
    except OSError:
        return False


def _kind(path: Path) -> str:
    if path.is_symlink() and not path.exists():
        return "it is a link that leads nowhere"
    return "it is a folder" if path.is_dir() else "it is no file"


def _reason(error: UserError) -> str:
    return str(error.value if isinstance(error, BrokenFile) else error)


def _checked(path: Path) -> bool:
    return read_record(path) is not None


#: Whether a file has its form, and the config in a folder: each looked at again only when the file changes.
_well_formed = Unchanged(_checked)
_config = Unchanged(lambda path: RunFolder(path.parent).config())


def set_aside(path: Path) -> Path:
    """Move a file or folder into the folder `damaged` beside it, under a name that is free; returns its new place.

    Errors:
        OSError: it cannot be moved.
    """
    place = path.parent / ASIDE
    place.mkdir(exist_ok=True)
    target, number = place / path.name, 1
    while os.path.lexists(target):
        number += 1
        target = place / f"{path.name}.{number}"
    path.rename(target)
    return target


def repair(folder: RunFolder, config: RunConfig) -> list[tuple[Damage, Path]]:
    """Set all damaged files of a run aside; returns what, and where each is now.

    Config and keys are written again: each by the other, and by the grid's own config. A folder in which neither says
    whose it is goes aside whole. All other files are made again by the run's stages, from what is still good.

    Errors:
        OSError: something cannot be moved or written.
    """
    moved: list[tuple[Damage, Path]] = []
    while (damage := find_damage(folder)) is not None and len(moved) < 100:
        begun = _keys_name(folder, config)
        if damage.path == folder.path / "config.json" and not begun:
            damage = Damage(folder.path, f"its {damage}")
        store = "." if (folder.path / "searches").is_dir() else "../.."
        moved.append((damage, set_aside(damage.path)))
        if damage.path == folder.path / "config.json":
            folder.create(config)
        elif damage.path == folder.path / "keys.json" and _config_names(folder, config):
            write_json(folder.path / "keys.json", folder.fresh_keys(config, store))
    return moved


def _config_names(folder: RunFolder, config: RunConfig) -> bool:
    """Whether there is a config, and it is a run's."""
    return (folder.path / "config.json").exists() and folder.config().hash == config.hash


def _keys_name(folder: RunFolder, config: RunConfig) -> bool:
    """Whether keys.json says that a folder is a run's."""
    try:
        return (folder.keys() or {}).get("run") == config.hash
    except UserError:
        return False
