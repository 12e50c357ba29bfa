"""What a run folder holds that the tracker does not: read once, whoever writes it."""

import contextlib
import json
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from ablations.grid.load import Grid, Point
from ablations.mirror.datasets import Part, parts_of
from ablations.mirror.description import NOTE, description
from ablations.mirror.records import Records, as_dict
from ablations.mirror.tags import all_tags, own_tags
from ablations.run.stages import OUTPUTS, stages_of
from ablations.run.state import RunState
from cscdarts.records.forms import is_metric_line
from cscdarts.records.run_folder import RunFolder
from cscdarts.settings.config import hashed_values
from cscdarts.settings.metrics import METRICS
from cscdarts.settings.overrides import dotted_texts

#: Files copied as artifacts, once each; the growing ones only when the run has ended.
ARTIFACTS = ("config.json", "environment.json", "search.json", "genotype.json", "check.json", "result.json")
GROWING = ("alphas.jsonl", "search-metrics.jsonl", "retrain-metrics.jsonl", "metrics.jsonl", "log.txt")
#: The files with numbers of the whole run.
RESULTS = ("search.json", "genotype.json", "check.json", "result.json")
#: Tag that holds what was written of a run.
CURSOR = "cscdarts.mirror"
#: The form of what is written; a row of another one gets all again, which changes nothing but what is new in it.
FORM = 2
#: Tag that says which folder of runs a run is mirrored from.
HOME = "cscdarts.home"

#: What of the metrics is about the machine, by the names that MLflow's System metrics tab shows. None of ours is what
#: one of MLflow's own names means (a machine's whole memory, its use of the CPU), so none of those is taken.
SYSTEM = {
    "search_epoch_time_s": "system/search_epoch_seconds",
    "retrain_epoch_time_s": "system/retrain_epoch_seconds",
    "search_time_s": "system/search_seconds",
    "retrain_time_s": "system/retrain_seconds",
    "peak_memory_mib": "system/search_peak_memory_mebibytes",
}

#: A run's status -> MLflow's.
STATUS = {"done": "FINISHED", "failed": "FAILED", "running": "RUNNING", "pending": "SCHEDULED"}

#: Times and steps beyond this fit no store.
_MOST = 2**53

#: Metric name, value, milliseconds, step.
MetricPoint = tuple[str, float, int, int]


@dataclass(frozen=True)
class RunUpdate:
    """What is to be written of one run.

    Attributes:
        run_id: the tracker's run, or "" where it has none yet.
        name, started_ms: of a run that is to be made.
        status: `pending`, `running`, `done` or `failed`.
        ended_ms: when it ended, or None.
        tags, params, metrics: entries; params only where none were written.
        files: artifacts to copy.
        datasets: parts of data sets that are not in the row yet.
        cursor: the note that makes all this old; written last.
    """

    key: str
    run_id: str
    name: str
    started_ms: int
    status: str
    ended_ms: int | None
    tags: dict[str, str]
    params: list[tuple[str, str]]
    metrics: list[MetricPoint]
    files: list[Path]
    cursor: dict[str, Any]
    datasets: list[Part] = field(default_factory=list)

    @property
    def note(self) -> str:
        """The cursor as it stands in the store."""
        return json.dumps(self.cursor, sort_keys=True)


def read_update(
    grid: Grid, point: Point, path: Path, state: RunState, run_id: str, cursor: Mapping[str, Any], home: str
) -> RunUpdate | None:
    """Compare a run folder with the note of what was written; None if nothing is new, at the cost of a few file
    stats.

    Args:
        home: what the row is to name as the folder that it is the mirror of.
    """
    folder = RunFolder(path)
    ended = state.status in ("done", "failed")
    status = state.status if state.status in STATUS else "pending"
    files = _stamps(folder, (*ARTIFACTS, "failure.json", *(GROWING if ended else ())))
    sources = _sources(point, folder)
    sizes = {name: size for name, path in sources.items() if (size := _size(path))}
    current = cursor.get("form") == FORM
    before = _read_before(cursor) if current else {}
    if run_id and current and (cursor.get("files"), before, cursor.get("status")) == (files, sizes, status):
        return None
    records = Records(folder)
    params = _params(point, cursor)
    metrics: list[MetricPoint] = []
    read: dict[str, int] = {}
    for name, path in sources.items():
        points, offset = _lines(path, before.get(name, 0))
        metrics += points
        read |= {name: offset} if offset else {}
    written = as_dict(cursor.get("files"))
    for name in RESULTS:
        if files.get(name) != written.get(name) or not current:
            metrics += _results(records, name)
    ended_ms = None
    if ended:
        told = _last_output(point) if status == "done" else "failure.json" if "failure.json" in files else "log.txt"
        ended_ms = _mtime_ms(folder.file(told))
    text, parts = description(grid, point, records, status, state), parts_of(point, records)
    named = [f"{part.name} {part.digest}" for part in parts]
    return RunUpdate(
        point.hash,
        run_id,
        run_name(point),
        0 if run_id else _started_ms(records),
        status,
        ended_ms,
        {**all_tags(grid, point, records, status, state), HOME: home, NOTE: text},
        params,
        metrics,
        [folder.file(name) for name, stamp in files.items() if name != "failure.json" and stamp != written.get(name)],
        {
            "bytes": read, "files": files, "status": status, "form": FORM, "datasets": named,
        },
        parts if cursor.get("datasets") != named else [],
    )  # fmt: skip


def damaged_update(
    grid: Grid, point: Point, path: Path, state: RunState, run_id: str, cursor: Mapping[str, Any], home: str
) -> RunUpdate | None:
    """Note that a run's files cannot be read; what was copied of it before stays, and nothing is copied now. None where
    that is noted."""
    if run_id and cursor.get("damaged") == state.detail:
        return None
    now = int(1000 * time.time())
    tags = {**own_tags(grid, point, "failed", state), HOME: home}
    noted = {**cursor, "status": "failed", "damaged": state.detail}
    return RunUpdate(
        point.hash, run_id, run_name(point), 0 if run_id else now, "failed", now, tags, _params(point, cursor), [], [],
        noted,
    )  # fmt: skip


def _params(point: Point, cursor: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The config's values; none where they were written.

    As hashed: a field at its neutral value is absent, so runs from before it came stay in one setting with later ones.
    """
    if cursor:
        return []
    # A new run, or one whose mirror died before its first note: then all is written in any case.
    return list(dotted_texts(hashed_values(point.config)).items())


def run_name(point: Point) -> str:
    """A short name: method, what the method varies, seed."""
    supernet, search = point.config.supernet, point.config.search
    return f"{point.methods[0]} r={supernet.split_ratio} id={supernet.identity} o={search.order} s={point.config.seed}"


def _lines(path: Path, offset: int) -> tuple[list[MetricPoint], int]:
    """Metric points `(key, value, ms, step)` of the whole lines after `offset`, and the offset behind them."""
    points: list[MetricPoint] = []
    try:
        with path.open("rb") as file:
            file.seek(offset)
            data = file.read()
    except FileNotFoundError:
        return [], 0
    whole = data.rfind(b"\n") + 1
    for line in data[:whole].splitlines():
        # A line of another form than ours is passed over as a torn one is.
        with contextlib.suppress(ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError):
            entry = json.loads(line)
            when, step = int(1000 * entry["time"]), int(entry["epoch"])
            if is_metric_line(entry) and max(abs(when), abs(step)) < _MOST:
                values = entry["values"]
                points += [(k, float(v), when, step) for k, v in values.items() if k in METRICS]
                points += [(SYSTEM[k], float(values[k]), when, step) for k in SYSTEM if k in values]
    return points, offset + whole


def _sources(point: Point, folder: RunFolder) -> dict[str, Path]:
    """The files of metric lines by name; of several searches only the one that the cell comes from."""
    files = folder.metrics_files()
    if point.config.search.best_of > 1 and not folder.has("genotype"):
        del files["search-metrics.jsonl"]
    return files


def _read_before(cursor: Mapping[str, Any]) -> dict[str, int]:
    """How many bytes of each file of metric lines were written; one number meant `metrics.jsonl`."""
    noted = cursor.get("bytes", {})
    noted = noted if isinstance(noted, Mapping) else {"metrics.jsonl": noted}
    return {str(k): int(v) for k, v in noted.items() if isinstance(v, int | float)}


def _last_output(point: Point) -> str:
    """The file that ends a run."""
    return OUTPUTS[stages_of(point.config)[-1]] + ".json"


def _results(records: Records, name: str) -> list[MetricPoint]:
    """The numbers of the whole run in one of its files."""
    when = _mtime_ms(records.folder.file(name))
    found = [(k, v) for k, raw in records.values(name).items() if k in METRICS and (v := _number(raw)) is not None]
    machine = [(SYSTEM[k], v) for k, v in found if k in SYSTEM]
    return [(k, v, when, 0) for k, v in (*found, *machine)]


def _number(value: Any) -> float | None:
    with contextlib.suppress(OverflowError):
        return float(value) if isinstance(value, int | float) else None
    return None


def _stamps(folder: RunFolder, names: Iterable[str]) -> dict[str, list[int]]:
    """Size and time of the files that are there, in the order of `names`."""
    stamps = {}
    for name in names:
        with contextlib.suppress(FileNotFoundError):
            stat = folder.file(name).stat()
            stamps[name] = [stat.st_size, stat.st_mtime_ns]
    return stamps


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _mtime_ms(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns // 1_000_000
    except FileNotFoundError:
        return int(1000 * time.time())


def latest_ms(folder: Path, points: Iterable[Point]) -> int:
    """When the last run of a grid ended, in milliseconds."""
    ends = [RunFolder(folder / p.hash).file(name) for p in points for name in (_last_output(p), "failure.json")]
    known = [_mtime_ms(path) for path in ends if path.exists()]
    return max(known, default=int(1000 * time.time()))


def _started_ms(records: Records) -> int:
    environment = records["environment.json"]
    started = environment.get("first_started_at") or environment.get("started_at")
    if isinstance(started, int | float) and 0 <= 1000 * started < _MOST:
        return int(1000 * started)
    if isinstance(started, str):
        with contextlib.suppress(ValueError):
            return int(1000 * datetime.fromisoformat(started).timestamp())
    return _mtime_ms(records.folder.file("config.json"))
