"""Modules that lie beside a user's file: imported as if the file were a script, without hiding anything of ours.

While a user's code runs, a module beside it counts before what is installed, as it does for a script; names of the
standard library and of this distribution never do, so that a user's own `slurm.py` or `reports.py` harms nobody. Later
imports, inside of functions, find the modules where nothing else has their name.
"""

import contextlib
import importlib
import importlib.abc
import importlib.machinery
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import ModuleType

#: The distribution's packages, wherever they are imported from.
OURS = frozenset({"ablations", "benchmarks", "cscdarts", "reports", "slurm"})
_NEVER = OURS | sys.stdlib_module_names


#: Where grid files imported from before the package had rooms -> where that is now.
_MOVED = {
    "cscdarts.config": "cscdarts.settings.config",
    "cscdarts.overrides": "cscdarts.settings.overrides",
    "cscdarts.presets": "cscdarts.settings.methods",
    "cscdarts.protocols": "cscdarts.settings.protocols",
}
#: Top-level module -> the folder that it was found in.
_found: dict[str, str] = {}


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
        if path is not None or fullname in _NEVER:
            return None
        for folder in self.folders:
            spec = importlib.machinery.PathFinder.find_spec(fullname, [folder])
            if spec is not None and not (self.first and spec.loader is None):
                _found[fullname] = folder
                return spec
        return None


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
