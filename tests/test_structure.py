"""The shape of the code: small folders, small modules, one direction of imports, no cycle even through a function."""

import ast
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("cscdarts", "slurm", "benchmarks", "ablations", "reports")
MOST_MODULES = 12
MOST_LINES = 400


def _python_files(*folders: str) -> Iterator[Path]:
    for folder in folders:
        yield from sorted((ROOT / folder).rglob("*.py"))


def _name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports() -> dict[str, set[str]]:
    """Module -> modules of the product that it imports anywhere, inside functions too."""
    names = {_name(path) for path in _python_files(*PACKAGES)}
    found: dict[str, set[str]] = {}
    for path in _python_files(*PACKAGES):
        wanted: set[str] = set()
        if path.name != "__init__.py":
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Import):
                    wanted |= {alias.name for alias in node.names}
                elif isinstance(node, ast.ImportFrom) and node.module:
                    wanted |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        found[_name(path)] = (wanted & names) - {_name(path)}
    return found


def levels(graph: Mapping[str, set[str]]) -> dict[str, int]:
    """Module -> length of the longest chain of imports below it.

    Errors:
        ValueError: the imports run in a circle.
    """
    done: dict[str, int] = {}

    def level(name: str, above: tuple[str, ...]) -> int:
        if name in above:
            raise ValueError("imports in a circle: " + " -> ".join([*above[above.index(name) :], name]))
        if name not in done:
            done[name] = 1 + max((level(one, (*above, name)) for one in graph[name]), default=-1)
        return done[name]

    for name in graph:
        level(name, ())
    return done


def test_no_cycle_even_through_an_import_inside_a_function() -> None:
    assert max(levels(imports()).values()) > 3


def test_a_cycle_would_be_found() -> None:
    with pytest.raises(ValueError, match="a -> b -> a"):
        levels({"a": {"b"}, "b": {"a"}})


def test_folders_and_modules_are_small() -> None:
    folders: dict[Path, int] = {}
    for path in _python_files(*PACKAGES, "tests"):
        if path.name != "__init__.py":
            folders[path.parent] = folders.get(path.parent, 0) + 1
    assert {str(folder): count for folder, count in folders.items() if count > MOST_MODULES} == {}
    lengths = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in _python_files(*PACKAGES, "tests")}
    assert {str(path): length for path, length in lengths.items() if length > MOST_LINES} == {}


if __name__ == "__main__":  # python -m tests.test_structure: the figures that the notes quote
    graph = imports()
    by_level = levels(graph)
    for package in PACKAGES:
        own = {name: level for name, level in by_level.items() if name.split(".")[0] == package}
        inner = {name: {one for one in graph[name] if one.split(".")[0] == package} for name in own}
        rooms = {name.rsplit(".", 1)[0] for name in own if "." in name}
        height = 1 + max(levels(inner).values())
        print(f"{package}: {len(own)} modules in {len(rooms)} folders, {height} levels of imports")


def test_what_runs_leave_beside_the_code_makes_no_tree_dirty() -> None:
    """A lock or a journal that lies there for a moment would mark that moment's runs as made from changed code."""
    if not (ROOT / ".git").exists():
        pytest.skip("this copy is no git checkout")
    names = ["", ".lock", ".quickstart.lock", ".making-0a1b2c3d"]
    left = ["runs/x", "report/x", "mlruns/x", "mlflow.db-journal", "mlflow.db-wal", "mlflow.db"]
    for name in [*left, *(f".mlflow.db{name}" for name in names[1:])]:
        done = subprocess.run(["git", "check-ignore", "-q", name], cwd=ROOT, check=False)
        assert done.returncode == 0, name
