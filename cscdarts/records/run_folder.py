"""The run folder `runs/<grid>/<hash>/`: the truth that trackers and reports derive from. No torch.

| file | is | written |
|---|---|---|
| `config.json` | the full config, labels and runtime included | first |
| `environment.json` | commit, versions, hardware, host | once per start |
| `metrics.jsonl` | one line per epoch: stage, epoch, step, time, values | appended |
| `alphas.jsonl` | architecture parameters after each epoch | appended |
| `checkpoint.pt`, `checkpoint.previous.pt` | everything that moves | rename |
| `search.json` | end of the search: its costs | rename |
| `genotype.json` | the derived cell as text, and its one-shot error | rename |
| `check.json` | what a benchmark says of it | rename |
| `result.json` | end of the run | rename |
| `failure.json` | why the last attempt stopped | rename |
| `heartbeat` | touched while a process works here | in place |
| `log.txt` | plain lines | appended |

Every file appears by temporary name and rename, or is append-only with a torn last line tolerated.
"""

import contextlib
import json
import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cscdarts.errors import BrokenFile, MissingFile, UserError
from cscdarts.settings.config import RunConfig


def write_atomic(path: Path, content: str | bytes) -> None:
    """Write a file so that a reader sees the old content or the new, whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    data = content.encode() if isinstance(content, str) else content
    try:
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_json(path: Path, value: Any) -> None:
    """Write JSON atomically, keys sorted, one trailing newline."""
    write_atomic(path, json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False) + "\n")


def read_json(path: Path) -> Any | None:
    """The content of a JSON file, or None where there is none."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise BrokenFile(str(path), "it cannot be read", "JSON as cscdarts wrote it", "Move the file away.") from error


def append_line(path: Path, value: Mapping[str, Any]) -> None:
    """Append one JSON line; after a torn last line a new line is begun first."""
    line = json.dumps(value, sort_keys=True, ensure_ascii=False)
    with path.open("ab+") as file:
        if file.seek(0, os.SEEK_END) > 0:
            file.seek(-1, os.SEEK_END)
            if file.read(1) != b"\n":
                file.write(b"\n")
        file.write(line.encode() + b"\n")


def read_lines(path: Path) -> Iterator[dict[str, Any]]:
    """The JSON lines of an append-only file; torn lines are passed over."""
    if not path.exists():
        return
    with path.open(encoding="utf-8", errors="replace") as file:
        for line in file:
            with contextlib.suppress(ValueError):
                value = json.loads(line)
                if isinstance(value, dict):
                    yield value


@dataclass(frozen=True)
class RunFolder:
    """The files of one run.

    Attributes:
        path: the folder itself; it need not exist yet.
    """

    path: Path

    def file(self, name: str) -> Path:
        """The path of one of the run's files."""
        return self.path / name

    def create(self, config: RunConfig) -> None:
        """Make the folder and write `config.json` unless it is there; refuse a folder that holds another run."""
        present = self.config() if self.file("config.json").exists() else None
        if present is not None and present.hash != config.hash:
            raise UserError(
                str(self.path), present.hash, f"a folder of run {config.hash}", "Choose another runs folder."
            )
        if present is None:
            write_json(self.file("config.json"), json.loads(config.model_dump_json()))

    def config(self) -> RunConfig:
        """The config the folder was made for."""
        from cscdarts.settings.overrides import build

        data = read_json(self.file("config.json"))
        if data is None:
            raise MissingFile(str(self.path), "Give a folder under runs/.", "config.json")
        return build(data)

    def has(self, stage: str) -> bool:
        """Whether a stage (`search`, `genotype`, `check`, `result`) has left its output."""
        return self.file(f"{stage}.json").exists()

    def log(self, line: str) -> None:
        """Append a line with the time (UTC) to `log.txt`."""
        stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        with self.file("log.txt").open("a", encoding="utf-8") as file:
            file.write(f"{stamp} {line}\n")

    def beat(self) -> None:
        """Touch the heart-beat file."""
        self.file("heartbeat").touch()

    def record(self, stage: str, epoch: int, step: int, values: Mapping[str, float]) -> None:
        """Append one line of metrics with the present time."""
        append_line(
            self.file("metrics.jsonl"),
            {"stage": stage, "epoch": epoch, "step": step, "time": time.time(), "values": dict(values)},
        )

    def curves(self) -> list[dict[str, Any]]:
        """Metric lines, one for each (stage, epoch): where a resumed run wrote an epoch again, values merge, the last
        wins."""
        merged: dict[tuple[str, int], dict[str, Any]] = {}
        for line in read_lines(self.file("metrics.jsonl")):
            if {"stage", "epoch", "values"} <= line.keys():
                key = (str(line["stage"]), int(line["epoch"]))
                earlier = merged.get(key, {"values": {}})
                merged[key] = {**line, "values": {**earlier["values"], **line["values"]}}
        return list(merged.values())

    def alphas(self) -> list[dict[str, Any]]:
        """Architecture parameters by epoch, the last line of an epoch wins:
        `{"epoch": 3, "alpha": {"normal": [[...]]}}`."""
        lines = {int(line["epoch"]): line for line in read_lines(self.file("alphas.jsonl")) if "epoch" in line}
        return [lines[epoch] for epoch in sorted(lines)]
