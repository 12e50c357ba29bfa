"""Records looked up by name, those of the package and those of users, and the user's modules that register them. No
torch.

A configuration, a genotype and a stored run hold names only. So a process that meets a name it does not know imports
the modules named in `CSCDARTS_PLUGINS` (module names or paths of Python files, separated as in `PATH`) and looks again.
Runs of a user's grid file need nothing: their tasks carry the file's path, and each worker or job imports it before it
begins. Only these two name code: nothing that a run folder or a store holds is ever imported.
"""

import hashlib
import importlib
import importlib.util
import os
import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Generic, Protocol, TypeVar

from cscdarts.errors import MissingFile, OutsideFailure, UserError
from cscdarts.spaces.neighbours import beside, see_neighbours

PLUGINS_VARIABLE = "CSCDARTS_PLUGINS"

_loaded: set[str] = set()


class Named(Protocol):
    """What can be registered."""

    @property
    def name(self) -> str:
        """Its name in configurations."""


Record = TypeVar("Record", bound=Named)


class Registry(Generic[Record]):
    """Records by name, in the order of their registration; `registry[name]` is one (see `require` for what is unknown).

    Args:
        kind: what the records are, for messages.
        how: how a user registers one, for messages.
    """

    def __init__(self, kind: str, how: str) -> None:
        self.kind, self.how = kind, how
        self._records: dict[str, Record] = {}
        self._built_in: frozenset[str] = frozenset()

    def register(self, record: Record) -> None:
        """Add a record. A user's own is replaced by a later one of its name, as when a file is read again.

        Errors:
            UserError: the name is taken by a record of the package, or would not read well in a text form.
        """
        if not record.name.isidentifier():
            raise UserError(self.kind, record.name, "letters, digits and underscores", "Choose another name.")
        if record.name in self._built_in:
            raise UserError(self.kind, record.name, "a name that the package does not use", "Choose another name.")
        self._records[record.name] = record

    def unregister(self, name: str) -> None:
        """Remove a user's record; nothing happens where there is none.

        Errors:
            UserError: the record belongs to the package.
        """
        if name in self._built_in:
            raise UserError(self.kind, name, "a name registered from outside the package", "Leave it registered.")
        self._records.pop(name, None)

    def close(self) -> None:
        """Mark all that is registered so far as the package's own."""
        self._built_in = frozenset(self._records)

    def names(self) -> tuple[str, ...]:
        """All known names."""
        return tuple(self._records)

    def records(self) -> tuple[Record, ...]:
        """All records."""
        return tuple(self._records.values())

    def __contains__(self, name: str) -> bool:
        if name not in self._records:
            load_plugins()
        return name in self._records

    def added(self, name: str) -> bool:
        """Whether a name was registered from outside the package."""
        return name in self and name not in self._built_in

    def __getitem__(self, name: str) -> Record:
        self.require(name)
        return self._records[name]

    def require(self, name: str, where: str = "") -> None:
        """Refuse a name that nothing has; the message says how to register it.

        Args:
            where: the field that holds the name.

        Errors:
            UserError: see above.
        """
        if name not in self:
            raise UserError(where or self.kind, name, ", ".join(self.names()), self.help)

    @property
    def help(self) -> str:
        """How to make a name known, for messages."""
        return f"Register your own with {self.how} in your grid file, or in a module named in {PLUGINS_VARIABLE}."


def load_plugins() -> None:
    """Import the modules of `CSCDARTS_PLUGINS`, each once in a process.

    Errors:
        UserError: see `load_plugin`.
    """
    for source in os.environ.get(PLUGINS_VARIABLE, "").split(os.pathsep):
        if source.strip():
            load_plugin(source.strip())


def load_plugin(source: str) -> None:
    """Import a module by its name, or a Python file by its path, once in a process.

    A module is looked for in the present folder too, after all that is installed.

    Errors:
        UserError: there is no such module or file, or it does not run.
    """
    if source in _loaded:
        return
    _loaded.add(source)  # before it runs: it may look up a name itself
    try:
        if source.endswith(".py"):
            load_file(Path(source))
        else:
            with beside(Path.cwd()):
                importlib.import_module(source)
    except UserError:
        _loaded.discard(source)
        raise
    except (Exception, SystemExit) as error:
        _loaded.discard(source)
        raise OutsideFailure(
            f"Importing {source}", f"{type(error).__name__}: {error}", "Correct the module, or its name."
        ) from error


def load_file(path: Path) -> ModuleType:
    """Run a Python file as a module of its own; modules that lie beside it can be imported, while it runs and later.

    Errors:
        UserError: there is no such file. What the file itself raises passes through.
    """
    if not path.is_file():
        raise MissingFile(str(path), "Check the path.")
    path = path.resolve()
    # Two files of one name, from two folders, are two modules; a name with a dot would be part of a package.
    mark = hashlib.sha256(os.fsencode(path)).hexdigest()[:8]
    name = "cscdarts_user_" + re.sub(r"\W", "_", path.stem) + f"_{mark}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    before = sys.modules.get(name)
    sys.modules[name] = module  # dataclasses look their module up there
    try:
        with beside(path.parent):
            see_neighbours(module, str(path.parent))
            spec.loader.exec_module(module)
    except BaseException:
        if before is None:
            del sys.modules[name]
        else:
            sys.modules[name] = before
        raise
    return module
