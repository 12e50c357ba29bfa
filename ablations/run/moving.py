"""The files of a run folder of version 0.1.0 on their way to where they lie now; see `ablations.run.migration`.

Nothing here overwrites a file that is valid: new folders are filled under another name, and what is left over of an old
one goes only once what stands for it is in place.
"""

import contextlib
import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from ablations.grid.past import MANIFEST, PAST, read_past, renamed
from ablations.run.old_folders import STAGE_FILES, OldRun, own_values
from cscdarts.errors import BrokenFile
from cscdarts.records.run_folder import STAGE_FOLDERS, RunFolder, read_json, write_atomic, write_json
from cscdarts.settings.keys import Key, Stage
from slurm.job import CLAIM

#: In a folder that was taken over: where it comes from, and the sizes and times of the files it was made of.
ORIGIN = "migrated.json"
#: In a run's folder: its own files of a stage for which another run's equal ones stand.
REPLACED = "replaced"
#: In `keys.json` between the moment that it is valid and the removal of what is left over: stage -> what was done.
UNDER_WAY = "migrating"

#: How a stage's files are taken over: `moved` under the key, or `shared` with what lies there.
Way = Literal["moved", "shared"]


def fresh(place: Path) -> Path:
    """An empty folder beside a place, to be renamed to it once it is whole."""
    work = place.with_name(f".{place.name}.migrating")
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    return work


def origin_of(place: Path) -> Any:
    """What a folder says of where it comes from; None where it was not taken over."""
    return read_json(place / ORIGIN) if (place / ORIGIN).is_file() else None


def passing(name: str) -> bool:
    """Whether a name in a run's folder is that of a claim, or of a file that was never finished."""
    return name == CLAIM or name.startswith(f".{CLAIM}.") or (name.startswith(".") and name.endswith(".tmp"))


def fill_stage(work: Path, run: OldRun, stage: Stage) -> None:
    """A stage's folder: its files, its lines of `metrics.jsonl`, its key; checkpoints that go on are sealed with it."""
    output, ended, key = STAGE_FILES[stage][0], bool(run.output(stage)), run.key(stage)
    for name in STAGE_FILES[stage]:
        source = run.path / name
        if not source.exists():
            continue
        if name == output:
            _write_output(work / name, run, stage, key)
        elif name.endswith(".pt") and not ended:
            _reseal(source, work / name, run.config.hash, key)
        else:
            _copy(source, work / name)
    lines = _metric_lines(run.path, stage)
    if lines:
        write_atomic(work / f"{stage}-metrics.jsonl", b"".join(lines))
        _same_time(run.path / "metrics.jsonl", work / f"{stage}-metrics.jsonl")
    if (run.path / "environment.json").exists():
        _copy(run.path / "environment.json", work / "environment.json")
    write_json(work / "key.json", json.loads(key.text))


def _write_output(path: Path, run: OldRun, stage: Stage, key: Key) -> None:
    value = {**run.output(stage), "key": key.id}
    if stage == "retrain":
        value |= {"values": own_values("retrain", value), "hash": run.target.hash}
    write_json(path, value)
    _same_time(run.path / path.name, path)  # a record says by it when the run ended


def fill_run(work: Path, run: OldRun) -> None:
    """A run's folder under another hash: all that the old one holds, with the configuration that names the data."""
    for source in sorted(run.path.iterdir()):
        if passing(source.name):
            continue
        if source.is_dir():
            shutil.copytree(source, work / source.name, symlinks=True)
        else:
            _copy(source, work / source.name)
    write_json(work / "config.json", json.loads(run.target.model_dump_json()))


def remove_left_over(folder: RunFolder) -> None:
    """Remove from a run's folder what lies under its keys by now, or put it to `replaced/`; each step can be done
    again."""
    path, keys = folder.path, folder.keys()
    if keys is None or UNDER_WAY not in keys:
        return
    ways: Mapping[Stage, Way] = keys[UNDER_WAY]
    for stage, way in ways.items():
        for name in STAGE_FILES[stage]:
            if not (path / name).exists():
                continue
            if way == "moved":
                (path / name).unlink()
            else:
                (path / REPLACED).mkdir(exist_ok=True)
                (path / name).rename(path / REPLACED / name)
        lines = _metric_lines(path, stage)
        if lines and way == "shared":
            write_atomic(path / REPLACED / f"{stage}-metrics.jsonl", b"".join(lines))
    if (path / "metrics.jsonl").exists():
        rest = _metric_lines(path, None)
        if rest:
            stat = (path / "metrics.jsonl").stat()
            write_atomic(path / "metrics.jsonl", b"".join(rest))
            os.utime(path / "metrics.jsonl", ns=(stat.st_atime_ns, stat.st_mtime_ns))
        else:
            (path / "metrics.jsonl").unlink()
    write_json(path / "keys.json", {name: value for name, value in keys.items() if name != UNDER_WAY})


def _metric_lines(path: Path, stage: Stage | None) -> list[bytes]:
    """The raw lines of a stage in `metrics.jsonl`; with None those of no search and no retraining, torn ones too."""
    with contextlib.suppress(FileNotFoundError):
        lines = (path / "metrics.jsonl").read_bytes().splitlines(keepends=True)
        return [line for line in lines if _stage_of(line) == stage]
    return []


def _stage_of(line: bytes) -> Stage | None:
    with contextlib.suppress(ValueError, TypeError, KeyError):
        stage = json.loads(line)["stage"]
        return stage if stage in STAGE_FOLDERS and line.endswith(b"\n") else None
    return None


def _copy(source: Path, target: Path) -> None:
    """A file under a second name: by a link where nothing is ever written into it, otherwise by a copy."""
    if source.suffix in (".json", ".pt"):
        with contextlib.suppress(OSError):  # a file system without links
            os.link(source, target, follow_symlinks=False)
            return
    if source.is_symlink():
        target.symlink_to(source.readlink())
        return
    write_atomic(target, source.read_bytes())
    _same_time(source, target)


def _same_time(source: Path, target: Path) -> None:
    stat = source.stat()
    os.utime(target, ns=(stat.st_atime_ns, stat.st_mtime_ns))


def _reseal(source: Path, target: Path, sealed_with: str, key: Key) -> None:
    """Write a checkpoint again under the stage's key; one that is torn is kept as it is, and passed over as before."""
    import torch

    from cscdarts.records.checkpoint import read_state, write_sealed

    try:
        state = read_state(source, torch.device("cpu"))
    except BrokenFile:
        state = {}
    if state.get("hash") != sealed_with:
        _copy(source, target)
        return
    write_sealed(target, {**state, "hash": key.id})
    _same_time(source, target)


def rename_in_manifest(run: OldRun) -> None:
    """Let `grid.json` name a run by its new hash, and say which data its grid was run on."""
    path = run.path.parent / MANIFEST
    value = read_json(path)
    if not isinstance(value, dict) or not isinstance(value.get("runs"), list):
        return
    data = run.target.data
    marks = {data.dataset: data.fingerprint, data.searched_dataset: data.searched_fingerprint}
    known = value.get("fingerprints") or {}
    runs = [{**one, "hash": run.target.hash} if one.get("hash") == run.config.hash else one for one in value["runs"]]
    value |= {"runs": runs, "fingerprints": {**known, **{k: v for k, v in marks.items() if v}}}
    if PAST in value:
        past = renamed(read_past(path.parent), run.config.hash, run.target.hash)
        value[PAST] = [one.plain() for one in past]
    write_json(path, value)
