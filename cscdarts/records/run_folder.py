"""The run folder `runs/<grid>/<hash>/`: the truth that trackers and reports derive from. No torch.

| file | is | written |
|---|---|---|
| `config.json` | the full config, labels and runtime included | first |
| `keys.json` | the keys of its search and retraining, and where those lie | with it; rename |
| `environment.json` | commit, versions, hardware, host | once per start |
| `genotype.json` | the derived cell as text, and its one-shot error | rename |
| `check.json` | what a benchmark says of it | rename |
| `failure.json` | why the last attempt stopped | rename |
| `metrics.jsonl` | one line per epoch of the check: stage, epoch, step, time, values | appended |
| `heartbeat` | touched while a process works here | in place |
| `log.txt` | plain lines | appended |

What a search and a retraining leave lies once, under their keys (`cscdarts.settings.keys`), for all runs that share it:

| folder | file | is |
|---|---|---|
| `searches/KEY/` | `key.json`, `environment.json` | what the key stands for; who worked on it |
| | `search-metrics.jsonl`, `alphas.jsonl` | epochs, and architecture parameters after each |
| | `checkpoint.pt`, `checkpoint.previous.pt` | everything that moves |
| | `search.json` | end of the search: its costs |
| `retrainings/KEY/` | `key.json`, `environment.json`, `retrain-metrics.jsonl`, `retrain.pt` | as above |
| | `result.json` | end of the retraining |

`RunFolder.file` finds each of them. A folder without `keys.json` (version 0.1.0, a copy in a tracker, or one that a
program made for itself) holds all files itself, its epochs in `metrics.jsonl`.

Every file appears by temporary name and rename, or is append-only with a torn last line tolerated.
"""

import contextlib
import errno
import json
import os
import re
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeGuard

from cscdarts.errors import BrokenFile, MissingFile
from cscdarts.records.forms import FORMS, is_alpha_line, is_metric_line
from cscdarts.records.unchanged import Unchanged
from cscdarts.settings.config import RunConfig
from cscdarts.settings.keys import Key, Stage, retraining_key, search_key, searches

#: Stage -> the folder of its folders, beside the grids' own.
STAGE_FOLDERS: Mapping[Stage, str] = {"search": "searches", "retrain": "retrainings"}
#: Stage -> the file that ends it.
STAGE_OUTPUTS: Mapping[Stage, str] = {"search": "search.json", "retrain": "result.json"}
#: File -> the stage in whose folder it lies; all others lie in the run's.
_STAGE_OF: Mapping[str, Stage] = {
    "search.json": "search",
    "alphas.jsonl": "search",
    "checkpoint.pt": "search",
    "search-metrics.jsonl": "search",
    "result.json": "retrain",
    "retrain.pt": "retrain",
    "retrain-metrics.jsonl": "retrain",
}

_ID = re.compile("[0-9a-f]{16}")

_FIX = "Move the file away."
_FIXES = {"grid.json": "`cscdarts ablate run`, given the grid's scale and settings, sets it aside and writes it anew."}

#: Characters of a line that is read; the architecture parameters of an epoch take some thousands.
MAX_LINE = 2**24


def write_atomic(path: Path, content: str | bytes) -> None:
    """Write a file so that a reader sees the old content or the new, whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    data = content.encode() if isinstance(content, str) else content
    try:
        with _naming(path), temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def _naming(path: Path) -> Iterator[None]:
    """The system's errors in a block name the file: those of writing to an open one do not by themselves."""
    try:
        yield
    except OSError as error:
        if error.filename is None:
            error.filename = str(path)
        raise


def write_json(path: Path, value: Any) -> None:
    """Write JSON atomically, keys sorted, one trailing newline."""
    write_atomic(path, json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False) + "\n")


def read_json(path: Path) -> Any | None:
    """The content of a JSON file, or None where there is none."""
    try:
        if path.exists() and not path.is_file():  # a pipe would be waited for
            raise OSError(errno.EINVAL, "it is no file")
        return json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (ValueError, RecursionError, OSError) as error:  # torn, nested without end, a folder, not ours to read
        if isinstance(error, OSError) and error.errno in (errno.EMFILE, errno.ENFILE):
            raise  # that no file can be opened says nothing against this one
        reason = f"it cannot be read ({error.strerror})" if isinstance(error, OSError) else "it cannot be read"
        fix = _FIXES.get(path.name, _FIX)
        raise BrokenFile(str(path), reason, "JSON as cscdarts wrote it", fix) from error


def read_record(path: Path) -> dict[str, Any] | None:
    """The content of one of a run's JSON files, None where there is none; its name says which form it must have.

    Errors:
        BrokenFile: it has another form (see `cscdarts.records.forms`), or leads nowhere.
    """
    value: Any = read_json(path)
    if value is None and not path.is_file():
        if path.is_symlink():
            raise BrokenFile(path, "it is a link that leads nowhere", "a file", "Move the link away.")
        return None
    problem = FORMS[path.name].problem(value)
    if problem is not None:
        raise BrokenFile(path, problem, f"{path.name} as cscdarts wrote it", _FIXES.get(path.name, _FIX))
    found: dict[str, Any] = value
    return found


def append_line(path: Path, value: Mapping[str, Any]) -> None:
    """Append one JSON line; after a torn last line a new line is begun first."""
    line = json.dumps(value, sort_keys=True, ensure_ascii=False)
    with _naming(path), path.open("ab+") as file:
        if file.seek(0, os.SEEK_END) > 0:
            file.seek(-1, os.SEEK_END)
            if file.read(1) != b"\n":
                file.write(b"\n")
        file.write(line.encode() + b"\n")


def read_lines(path: Path) -> Iterator[dict[str, Any]]:
    """The JSON objects of an append-only file, a line each; torn and foreign lines are passed over."""
    if not path.is_file():
        return
    with path.open(encoding="utf-8", errors="replace") as file:
        while line := file.readline(MAX_LINE):
            if line.endswith("\n") or len(line) < MAX_LINE:
                with contextlib.suppress(ValueError, RecursionError):
                    value = json.loads(line)
                    if isinstance(value, dict):
                        yield value
            else:  # the rest of a line without end
                while (rest := file.readline(MAX_LINE)) and not rest.endswith("\n"):
                    pass


def are_keys(value: Any) -> TypeGuard[dict[str, Any]]:
    """Whether a value has the shape of `keys.json`; what it names must stay within the store."""
    if not isinstance(value, dict) or not {"run", "store", "searches", *STAGE_FOLDERS} <= value.keys():
        return False
    ids = [value["run"], value["search"], *([] if value["retrain"] is None else [value["retrain"]])]
    if not isinstance(value["searches"], list) or not value["searches"] or value["store"] not in (".", "../.."):
        return False
    return all(isinstance(one, str) and _ID.fullmatch(one) for one in [*ids, *value["searches"]])


def _keys_in(path: Path) -> dict[str, Any]:
    value = read_json(path)
    if not are_keys(value):
        raise BrokenFile(str(path), "it is no list of keys", "keys.json as cscdarts wrote it", "Move it away.")
    return value


#: What `keys.json` holds: it is asked for with every file.
_known_keys = Unchanged(_keys_in)


@dataclass(frozen=True)
class RunFolder:
    """The files of one run.

    Attributes:
        path: the folder itself; it need not exist yet.
    """

    path: Path

    def file(self, name: str) -> Path:
        """The path of one of the run's files, wherever it lies."""
        stage = _STAGE_OF.get(name)
        return self.path / name if stage is None else self.stage_folder(stage) / name

    def stage_folder(self, stage: Stage) -> Path:
        """Where a stage's files lie: under the stage's key, or in the run folder itself where there are no keys (yet).

        Of several searches it is the one under way or, once the cell is derived, the one that it comes from.
        """
        keys = self.keys()
        key = None if keys is None else keys[stage]
        return self.path if keys is None or key is None else self.path / keys["store"] / STAGE_FOLDERS[stage] / key

    def search_folders(self) -> list[Path]:
        """Where the files of each of the run's searches lie, in the order of `cscdarts.settings.keys.searches`."""
        keys = self.keys()
        if keys is None:
            return [self.path]
        return [self.path / keys["store"] / STAGE_FOLDERS["search"] / key for key in keys["searches"]]

    def keys(self) -> dict[str, Any] | None:
        """`keys.json`: `run` (hash), `store` (relative path to the folder that holds `searches/`), `searches` (keys),
        `search` (the one at hand), `retrain` (key, None before the derivation); None where the folder holds all files.

        Errors:
            BrokenFile: it is torn or foreign.
        """
        return _known_keys(self.path / "keys.json")

    def create(self, config: RunConfig, store: str | None = None) -> None:
        """Write `config.json`, and `keys.json` where a store is named, each unless it is there.

        `cscdarts.records.ownership.require_own` says before whether the folder may become this run's. A folder that has
        a config and files of a stage itself is whole without keys.

        Args:
            store: path from the run folder to the folder that holds `searches/` and `retrainings/`; without one the run
                folder holds all files itself.
        """
        begun = self.file("config.json").exists()
        if store is not None and self.keys() is None and not (begun and self._is_whole()):
            # Keys first: a folder with a config and without keys is one that holds all files itself.
            write_json(self.path / "keys.json", self.fresh_keys(config, store))
        if not begun:
            write_json(self.file("config.json"), json.loads(config.model_dump_json()))

    def _is_whole(self) -> bool:
        """Whether files of a stage lie in the run folder itself."""
        return any((self.path / name).exists() for name in (*_STAGE_OF, "metrics.jsonl"))

    def fresh_keys(self, config: RunConfig, store: str) -> dict[str, Any]:
        """The content of `keys.json` by the config and, where the cell is derived, by what it says it comes from."""
        keys = [search_key(one).id for one in searches(config)]
        origin = (read_record(self.file("genotype.json")) or {}).get("search")
        key = self.retraining_key(config)
        return {
            "run": config.hash, "store": store, "searches": keys, "search": origin if origin in keys else keys[0],
            "retrain": None if key is None else key.id,
        }  # fmt: skip

    def bind(self, stage: Stage, key: Key) -> Path:
        """Make a key the run's own for a stage, and its folder with `key.json`; returns the folder.

        In a folder without keys that is the run folder.
        """
        keys = self.keys()
        if keys is None:
            return self.path
        if keys[stage] != key.id:
            write_json(self.path / "keys.json", {**keys, stage: key.id})
        folder = self.stage_folder(stage)
        if not (folder / "key.json").exists():
            write_json(folder / "key.json", json.loads(key.text))
        return folder

    def retraining_key(self, config: RunConfig) -> Key | None:
        """The key of the run's retraining, once its cell is derived."""
        genotype = read_record(self.file("genotype.json"))
        return None if genotype is None else retraining_key(config, genotype["text"])

    def note_cell(self, config: RunConfig) -> None:
        """Note in `keys.json` which retraining the cell just derived has: a cell put in its place later is then
        known for another."""
        keys, key = self.keys(), self.retraining_key(config)
        if keys is not None and key is not None and keys["retrain"] != key.id:
            write_json(self.path / "keys.json", {**keys, "retrain": key.id})

    def config(self) -> RunConfig:
        """The config the folder was made for."""
        from cscdarts.settings.overrides import build

        data = read_record(self.file("config.json"))
        if data is None:
            raise MissingFile(str(self.path), "Give a folder under runs/.", "config.json")
        return build(data)

    def has(self, stage: str) -> bool:
        """Whether a stage (`search`, `genotype`, `check`, `result`) has left its output."""
        return self.file(f"{stage}.json").exists()

    def log(self, line: str) -> None:
        """Append a line with the time (UTC) to `log.txt`."""
        stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        with _naming(self.file("log.txt")), self.file("log.txt").open("a", encoding="utf-8") as file:
            file.write(f"{stamp} {line}\n")

    def beat(self) -> None:
        """Touch the heart-beat file."""
        self.file("heartbeat").touch()

    def metrics(self, stage: str) -> Path:
        """The file of a stage's metric lines."""
        shared = stage in STAGE_FOLDERS and self.keys() is not None
        return self.file(f"{stage}-metrics.jsonl" if shared else "metrics.jsonl")

    def metrics_files(self) -> dict[str, Path]:
        """Name -> path of all files of metric lines that the run can have."""
        names = (*(f"{stage}-metrics.jsonl" for stage in STAGE_FOLDERS), "metrics.jsonl")
        return {name: self.file(name) for name in names}

    def record(self, stage: str, epoch: int, step: int, values: Mapping[str, float]) -> None:
        """Append one line of metrics with the present time."""
        append_line(
            self.metrics(stage),
            {"stage": stage, "epoch": epoch, "step": step, "time": time.time(), "values": dict(values)},
        )

    def curves(self) -> list[dict[str, Any]]:
        """Metric lines, one for each (stage, epoch): where a resumed run wrote an epoch again, values merge, the last
        wins."""
        merged: dict[tuple[str, int], dict[str, Any]] = {}
        for path in self.metrics_files().values():
            for line in read_lines(path):
                if is_metric_line(line):
                    key = (line["stage"], line["epoch"])
                    earlier = merged.get(key, {"values": {}})
                    merged[key] = {**line, "values": {**earlier["values"], **line["values"]}}
        return list(merged.values())

    def alphas(self) -> list[dict[str, Any]]:
        """Architecture parameters by epoch, the last line of an epoch wins:
        `{"epoch": 3, "alpha": {"normal": [[...]]}}`."""
        lines = {line["epoch"]: line for line in read_lines(self.file("alphas.jsonl")) if is_alpha_line(line)}
        return [lines[epoch] for epoch in sorted(lines)]
