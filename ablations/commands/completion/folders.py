"""What lies in folders and command lines are completed with: grids, runs, benchmarks' files. Only names and small JSON
are read."""

import contextlib
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
from click.shell_completion import CompletionItem

from ablations.commands.completion.names import PART, items, published

#: Of a folder with thousands of runs so many are described; the others are offered by their hash alone.
_DESCRIBED = 300
#: Of a Python file so much is read to see whether it is a grid.
_READ = 65_536
#: Folders under `runs` that hold no grid.
_NO_GRIDS = ("searches", "retrainings", "search", "retrain")
_FORMS = ("index:", "csv:", "nats:", "nasbench201:", "nb301:")


def directories(ctx: click.Context, incomplete: str) -> list[CompletionItem]:
    """The shell's own completion of folders."""
    return [CompletionItem(incomplete, type="dir")]


def files(ctx: click.Context, incomplete: str) -> list[CompletionItem]:
    """The shell's own completion of files."""
    return [CompletionItem(incomplete, type="file")]


def grids(ctx: click.Context, incomplete: str) -> list[CompletionItem]:
    """The grids of the distribution, those that were run, and files here that have a function `grid`."""
    found = {path.stem: _first_line(path) for path in _shipped()}
    for name in _recorded(_runs(ctx)):
        found.setdefault(name, f"recorded in {_runs(ctx)}")
    if ctx.command.name == "build" and not ctx.params.get("grids"):  # `report GRID...`, whose word is left out
        found |= {"record": "one JSON record of a grid's look-ups", "diff": "what moved between two reports"}
    own = [one for one in _entries(incomplete) if one.endswith("/") or _is_grid(Path(one))]
    return [
        *items(found, incomplete),
        *items({one: _first_line(Path(one)) for one in own if not one.endswith("/")}, incomplete),
        *items([one for one in own if one.endswith("/") and "/" in incomplete], incomplete, PART),
    ]


def recorded(ctx: click.Context, incomplete: str) -> list[CompletionItem]:
    """What there are records of: the grids that were run, and run folders."""
    runs = _runs(ctx)
    return [*items(dict.fromkeys(_recorded(runs), f"in {runs}"), incomplete), *run_folders(ctx, incomplete)]


def hashes(ctx: click.Context, incomplete: str) -> list[CompletionItem]:
    """The runs of the grid that the line names, each described."""
    source = str(ctx.params.get("source") or "")
    name = Path(source).name.removesuffix(".py") if source else ""
    return _runs_in(_runs(ctx) / name, "", incomplete) if name else []


def run_folders(ctx: click.Context, incomplete: str) -> list[CompletionItem]:
    """Run folders: first the grids' folders, then the runs in one, each described."""
    runs = _runs(ctx)
    head, slash, _ = incomplete.rpartition("/")
    folder = Path(head) if slash else Path()
    if slash and folder.parent == runs:
        return _runs_in(folder, f"{head}/", incomplete)
    if slash and folder == runs:
        names = [*_recorded(runs), *(name for name in ("search", "retrain") if (runs / name).is_dir())]
        return items([f"{head}/{name}/" for name in names], incomplete, PART)
    offered = [f"{runs}/"] if runs.is_dir() and f"{runs}/".startswith(incomplete) else []
    own = [one for one in _entries(incomplete) if one.endswith("/") and one not in offered]
    return items([*offered, *own], incomplete, PART)


def cells(ctx: click.Context, incomplete: str) -> list[CompletionItem]:
    """Published cells by name, run folders, and files that may hold a cell."""
    found = run_folders(ctx, incomplete)
    own = {item.value for item in found}
    in_runs = Path(incomplete.rpartition("/")[0]).is_relative_to(_runs(ctx)) and "/" in incomplete
    places = [one for one in _entries(incomplete) if not (one.endswith("/") or one in own or in_runs)]
    return [*published(ctx, incomplete), *found, *items(places, incomplete)]


def benchmarks(ctx: click.Context, incomplete: str) -> list[CompletionItem]:
    """The benchmarks of the package, and the forms of those in files, with the files."""
    form, colon, place = incomplete.partition(":")
    if colon:
        found = [f"{form}:{one}" for one in _entries(place)]
        whole = items([one for one in found if not one.endswith("/")], incomplete)
        return whole + items([one for one in found if one.endswith("/")], incomplete, PART)
    described = {"embedded": "all 15,625 cells, trained on digits", "pip": "validation accuracies that pip installs"}
    return items(described, incomplete) + items(_FORMS, incomplete, PART)


def _runs(ctx: click.Context) -> Path:
    return Path(ctx.params.get("runs") or "runs")


def _shipped() -> Iterator[Path]:
    folder = Path(__file__).parents[2] / "grids"
    yield from (path for path in sorted(folder.rglob("*.py")) if not path.stem.startswith("_"))


def _recorded(runs: Path) -> list[str]:
    """Folders of grids that were run."""
    with contextlib.suppress(OSError), os.scandir(runs) as entries:
        names = [one.name for one in entries if not one.name.startswith(".") and one.name not in _NO_GRIDS]
        return sorted(name for name in names if (runs / name / "grid.json").is_file())
    return []


def _entries(incomplete: str) -> list[str]:
    """Files and folders whose paths begin so, folders with a slash at the end; hidden ones only where asked for."""
    head, slash, last = incomplete.rpartition("/")
    with contextlib.suppress(OSError), os.scandir(f"{head}{slash}" or ".") as entries:
        return sorted(
            f"{head}{slash}{one.name}{'/' if one.is_dir() else ''}"
            for one in entries
            if one.name.startswith(last) and (last.startswith(".") or not one.name.startswith("."))
        )
    return []


def _is_grid(path: Path) -> bool:
    if path.suffix != ".py":
        return False
    with contextlib.suppress(OSError), path.open(encoding="utf-8", errors="replace") as file:
        return re.search(r"^def grid\(", file.read(_READ), re.MULTILINE) is not None
    return False


def _first_line(path: Path) -> str:
    """The first line of a module's docstring."""
    with contextlib.suppress(OSError), path.open(encoding="utf-8", errors="replace") as file:
        found = re.match(r'r?"""(.*)', file.readline())
        return found[1].removesuffix('"""') if found else ""
    return ""


def _runs_in(folder: Path, before: str, incomplete: str) -> list[CompletionItem]:
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        keys = sorted(one.name for one in entries if re.fullmatch("[0-9a-f]{16}", one.name))
        wanted = [key for key in keys if f"{before}{key}".startswith(incomplete)]
        return items(
            {f"{before}{key}": _described(folder / key) if n < _DESCRIBED else "" for n, key in enumerate(wanted)},
            incomplete,
        )
    return []


def _described(folder: Path) -> str:
    """What distinguishes a run, from its configuration alone."""
    with contextlib.suppress(OSError, ValueError, LookupError, TypeError):
        config: dict[str, Any] = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        supernet, search = config["supernet"], config["search"]
        what = f"r={supernet['split_ratio']} identity={supernet['identity']} order={search['order']}"
        return f"{config['labels']['method']} {what} seed={config['seed']}"
    return ""
