"""Modules that lie beside a user's file: imported as if the file were a script, without hiding anything of ours.

While a user's code runs, a module beside it counts before what is installed, as it does for a script; names of the
standard library never do. Later imports, inside of functions, find the modules where nothing else has their name.

A user's `slurm.py` or `reports.py` has the name of a package of ours. It is what the user's own import statements mean,
at any time, and is kept under another name, so that ours go on meaning ours.
"""

import builtins
import contextlib
import hashlib
import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

#: The distribution's packages, wherever they are imported from.
OURS = frozenset({"ablations", "benchmarks", "cscdarts", "reports", "slurm"})
_NEVER = OURS | sys.stdlib_module_names
#: Those of ours whose names users' files may have, too.
_SHARED = OURS - {"cscdarts"}

#: Where grid files imported from before the package had rooms -> where that is now.
_MOVED = {
    "cscdarts.config": "cscdarts.settings.config",
    "cscdarts.overrides": "cscdarts.settings.overrides",
    "cscdarts.presets": "cscdarts.settings.methods",
    "cscdarts.protocols": "cscdarts.settings.protocols",
}
#: Top-level module -> the folder that it was found in.
_found: dict[str, str] = {}
#: Name that a user's module is kept under -> its name, and the folder that it was found in.
_kept: dict[str, tuple[str, str]] = {}


class _OfUser(importlib.machinery.SourceFileLoader):
    """Runs a user's module, whose import statements find what lies beside it."""

    def __init__(self, name: str, path: str, folder: str) -> None:
        super().__init__(name, path)
        self.folder = folder

    def exec_module(self, module: ModuleType) -> None:
        see_neighbours(module, self.folder)
        super().exec_module(module)


class _Moved(importlib.abc.Loader):
    """Stands for a module in its former place, for users' files only."""

    def exec_module(self, module: ModuleType) -> None:
        place = _MOVED[module.__name__]
        module.__dict__["__getattr__"] = lambda name: getattr(importlib.import_module(place), name)


class _Finder(importlib.abc.MetaPathFinder):
    """Finds top-level modules in folders.

    Args:
        first: asked before all others, and so for no mere folder that happens to have an installed package's name.
    """

    def __init__(self, first: bool) -> None:
        self.first = first
        self.folders: list[str] = []

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname in _MOVED:
            return importlib.machinery.ModuleSpec(fullname, _Moved())
        if fullname in _kept:
            name, folder = _kept[fullname]
            return _of_user(importlib.machinery.PathFinder.find_spec(name, [folder]), folder, fullname)
        if path is not None:
            top = fullname.partition(".")[0]
            folder = _kept[top][1] if top in _kept else _found.get(top, "")
            return _of_user(importlib.machinery.PathFinder.find_spec(fullname, path), folder) if folder else None
        if fullname in _NEVER:
            return None
        for folder in self.folders:
            spec = importlib.machinery.PathFinder.find_spec(fullname, [folder])
            if spec is not None and not (self.first and spec.loader is None):
                _found[fullname] = folder
                return _of_user(spec, folder)
        return None


def _of_user(
    spec: importlib.machinery.ModuleSpec | None, folder: str, name: str = ""
) -> importlib.machinery.ModuleSpec | None:
    """A module's spec with a loader that lets it see its neighbours, if it is Python's source; under another name."""
    if spec is None or type(spec.loader) is not importlib.machinery.SourceFileLoader:
        return spec
    name, path = name or spec.name, spec.loader.path
    within = spec.submodule_search_locations
    return importlib.util.spec_from_file_location(
        name, path, loader=_OfUser(name, path, folder), submodule_search_locations=within
    )


def see_neighbours(module: ModuleType, folder: str) -> None:
    """Let import statements of a user's module, before it runs, mean what lies in `folder` where its name is ours."""

    def find(name: str, *others: Any, **named: Any) -> Any:
        top, _, rest = name.partition(".")
        level = named.get("level", others[3] if len(others) > 3 else 0)
        kept = _keep(top, folder, package=bool(rest)) if level == 0 and top in _SHARED else ""
        return builtins.__import__(kept + name[len(top) :] if kept else name, *others, **named)

    module.__dict__["__builtins__"] = {**vars(builtins), "__import__": find}


def _keep(name: str, folder: str, package: bool) -> str:
    """The name that a user's module of one of our names is kept under; "" where there is none, or no package."""
    spec = importlib.machinery.PathFinder.find_spec(name, [folder])
    if spec is None or spec.loader is None or (package and spec.submodule_search_locations is None):
        return ""
    kept = f"cscdarts_user_{name}_{hashlib.sha256(os.fsencode(folder)).hexdigest()[:8]}"
    _kept[kept] = name, folder
    return kept


_first, _last = _Finder(first=True), _Finder(first=False)


@contextlib.contextmanager
def beside(folder: Path) -> Iterator[None]:
    """Let modules in a folder be imported for a block, and, where nothing else has their name, from then on.

    A module of the same name that was found beside another file is forgotten: this folder's is another one.
    """
    place = str(folder.resolve())
    importlib.invalidate_caches()
    _forget_others(place)
    if _last not in sys.meta_path:
        sys.meta_path.append(_last)
    _last.folders = [place, *(one for one in _last.folders if one != place)]
    before, writes = _first.folders, sys.dont_write_bytecode
    _first.folders = [place]
    sys.dont_write_bytecode = True  # of a file edited within the second python would read the bytecode of its last text
    sys.meta_path.insert(0, _first)
    try:
        yield
    finally:
        sys.meta_path.remove(_first)
        _first.folders, sys.dont_write_bytecode = before, writes


def _forget_others(place: str) -> None:
    for top, folder in list(_found.items()):
        if folder == place or importlib.machinery.PathFinder.find_spec(top, [place]) is None:
            continue
        del _found[top]
        for name in [name for name in sys.modules if name.partition(".")[0] == top]:
            del sys.modules[name]
