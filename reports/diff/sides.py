"""What is compared: the machine-readable part of reports, or the runs of a commit in the store."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from cscdarts.errors import BrokenFile, UserError
from cscdarts.records.run_folder import read_json
from reports.read.form import problem
from reports.read.settings import FACTORS, Study, code, number, studies
from reports.read.store import load

#: The machine-readable part of a report.
SNAPSHOT = "report.json"
#: More columns than this are no comparison; each side needs a letter.
MOST_SIDES = 9
_FORMAT = 1
METRICS_COMPARED = (
    "test_error_pct",
    "test_top5_error_pct",
    "supernet_valid_error_pct",
    "params_m",
    "macs_m",
    "supernet_params_m",
    "supernet_macs_m",
    "peak_memory_mib",
    "search_time_s",
    "retrain_time_s",
    "kendall_tau",
)


class _Run(BaseModel):
    hash: str
    seed: int
    code: str
    hardware: str
    values: dict[str, float]


class _Entry(BaseModel):
    anchor: str
    block: str
    name: str
    runs: list[_Run]


class _Snapshot(BaseModel):
    format: int
    settings: list[_Entry]


@dataclass(frozen=True)
class Side:
    """One side of a comparison: a name and its settings by anchor."""

    name: str
    settings: Mapping[str, Mapping[str, Any]]

    def told(self, key: str) -> list[str]:
        """The values of its runs under `code` or `hardware`, or of its settings under `scale` or `data`, sorted."""
        if key in ("scale", "data"):
            return sorted({place(entry)[key == "scale"] for entry in self.settings.values()})
        return sorted({str(run[key]) for entry in self.settings.values() for run in entry["runs"]})


def place(entry: Mapping[str, Any]) -> tuple[str, str]:
    """(data, scale) of a setting; of a report that does not name them, from its block's title."""
    data, _, rest = str(entry["block"]).partition(" · scale ")
    return str(entry.get("data", data)), str(entry.get("scale", rest.partition(" · ")[0]))


def snapshot(studies_found: Sequence[Study], commit: str = "") -> dict[str, Any]:
    """The finished runs' numbers by setting, as plain data.

    Args:
        commit: keep only runs whose commit begins so.
    """
    settings = []
    for study in studies_found:
        for setting in study.settings:
            runs = [
                {
                    "hash": str(run["hash"]),
                    "seed": int(run["seed"]),
                    **({"search.strategy": "given"} if setting.given else {}),
                    **({"search": str(run["search"])} if run.get("search") else {}),
                    "code": code(run),
                    "hardware": str(run["hardware"]),
                    "values": {
                        name: number(run, name) for name in METRICS_COMPARED if number(run, name) == number(run, name)
                    },
                }
                for run in setting.done
                if str(run["commit"]).startswith(commit)
            ]
            if runs:
                name = f"{setting.names} ({setting.describe((*FACTORS, *study.varied))})"
                where = {"data": study.data, "scale": study.scale, "block": study.title}
                settings.append({"anchor": setting.anchor, **where, "name": name, "runs": runs})
    return {"format": _FORMAT, "settings": settings}


def snapshot_json(studies_found: Sequence[Study]) -> str:
    """`snapshot` as JSON text, keys sorted."""
    return json.dumps(snapshot(studies_found), indent=1, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n"


def side(name: str, grids: Sequence[str], uri: str | None = None) -> Side:
    """Read one side: a report's folder or any file in it, or the runs of a commit among some grids in the store.

    Errors:
        UserError: neither a report nor a commit with finished runs.
        BrokenFile: a report's JSON lacks keys, which are named, or has other values.
    """
    path = Path(name)
    if path.exists() or path.name == SNAPSHOT:
        return _of_report(name, path)
    if not re.fullmatch(r"[0-9a-f]{7,40}", name):
        raise UserError(
            "report diff", name, "a report's folder, or a commit of 7 to 40 hexadecimal digits", "Check the path."
        )
    if not grids:
        raise UserError("--grid", "", "the grid whose runs of that commit are meant", "For example: --grid quickstart")
    content = snapshot(studies(load(grids, uri)), name)
    if not content["settings"]:
        raise UserError(
            "report diff", name, f"a commit with finished runs in {', '.join(grids)}", "See T6b of a report."
        )
    return Side(name, {entry["anchor"]: entry for entry in content["settings"]})


def _of_report(name: str, path: Path) -> Side:
    fix = "Write it with: cscdarts report GRID --out DIR"
    if path.suffix == ".json":
        file = path
    else:  # a page or a table stands for the report that it is of
        folders = [path] if path.is_dir() else [path.parent, path.parent.parent]
        file = next((folder / SNAPSHOT for folder in folders if (folder / SNAPSHOT).is_file()), folders[0] / SNAPSHOT)
    content = read_json(file)
    if content is None:
        raise UserError("report diff", name, f"a folder with {SNAPSHOT}", fix)
    why = problem(_Snapshot, content)
    if why is None and content["format"] != _FORMAT:
        why = f"its format is {content['format']}, and {_FORMAT} is read here"
    if why is not None:
        raise BrokenFile(file, why, f"a report's {SNAPSHOT}", fix)
    return Side(name, {entry["anchor"]: entry for entry in content["settings"]})
