"""The package as a stranger has it: built once, installed into an environment without this checkout."""

import os
import shutil
import subprocess
import sys
import venv
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from email import message_from_bytes
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[2]
#: What lies at the root of a checkout and is none of it.
_LEFT_OUT = {".git", ".venv", "runs", "data", "mlruns", "report", "build", "dist"}


@dataclass(frozen=True)
class Built:
    """A source archive, the wheel that was made of it, and what the build said."""

    sources: Path
    wheel: Path
    commit: str
    said: str


@dataclass(frozen=True)
class Installed:
    """An environment that has the wheel, and a folder to call it from."""

    python: Path
    folder: Path

    def __call__(self, *words: str, code: int = 0, **variables: str) -> str:
        """What the console command prints, standard error included."""
        return self.run([str(self.python.with_name("cscdarts")), *words], code, **variables)

    def run(self, words: list[str], code: int = 0, **variables: str) -> str:
        """What a command prints that ends with `code`."""
        known = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "CSCDARTS_"))}
        done = subprocess.run(
            words, cwd=self.folder, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False,
            env={**known, "CSCDARTS_GRID_SECONDS": "120", **variables},
        )  # fmt: skip
        assert done.returncode == code, done.stdout
        return done.stdout


def _git(folder: Path, *words: str) -> str:
    command = ["git", "-c", "user.name=t", "-c", "user.email=t@example.org", *words]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True).stdout.strip()


def _left_out(folder: str, names: list[str]) -> set[str]:
    others = {name for name in names if name == "__pycache__" or name.endswith((".egg-info", "_cache"))}
    return others | (_LEFT_OUT & set(names) if Path(folder) == ROOT else set())


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    """Archive and wheel of the tree as it is, committed in a repository of its own, as `python -m build` makes them."""
    folder = tmp_path_factory.mktemp("build")
    tree = folder / "tree"
    shutil.copytree(ROOT, tree, ignore=_left_out)
    _git(tree, "init", "-q")
    _git(tree, "add", ".")
    _git(tree, "commit", "-q", "-m", "as it is")
    variables = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    done = subprocess.run(
        [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder / "dist"), str(tree)],
        text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False, env=variables,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    (sources,), (wheel,) = (folder / "dist").glob("*.tar.gz"), (folder / "dist").glob("*.whl")
    return Built(sources, wheel, _git(tree, "rev-parse", "HEAD"), done.stdout)


Environment = Callable[[str, Path], Path]


@pytest.fixture(scope="session")
def environment(built: Built, tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """Makes an environment with the wheel that finds its dependencies in some folder; returns its python."""

    def make(name: str, dependencies: Path) -> Path:
        folder = tmp_path_factory.mktemp(name)
        venv.create(folder, symlinks=True, with_pip=False)
        (site,) = folder.glob("lib/python*/site-packages")
        python = folder / "bin" / "python"
        (site / "dependencies.pth").write_text(f"{dependencies}\n")
        words = ["install", "-q", "--no-deps", "--no-index", "--disable-pip-version-check", str(built.wheel)]
        subprocess.run([sys.executable, "-m", "pip", "--python", str(python), *words], check=True)
        return python

    return make


def _site() -> Path:
    """The folder that holds what this environment has installed."""
    return Path(str(metadata.distribution("pydantic").locate_file("")))


@pytest.fixture(scope="session")
def whole(environment: Environment) -> Path:
    """The python of an environment with all extras. Nothing there leads to this checkout: a folder that a `.pth` file
    names has none of its own read."""
    return environment("whole", _site())


@pytest.fixture(scope="session")
def lean(environment: Environment, built: Built, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The python of an environment with what the wheel itself asks for, and nothing else."""
    folder = tmp_path_factory.mktemp("needed")
    for name in _needed(built):
        found = metadata.distribution(name)
        for top in {Path(str(file)).parts[0] for file in found.files or ()} - {"..", "__pycache__"}:
            if not (folder / top).exists():
                (folder / top).symlink_to(str(found.locate_file(top)))
    return environment("lean", folder)


def _needed(built: Built) -> set[str]:
    """The distributions that the wheel asks for without any extra, and those that these ask for."""
    with zipfile.ZipFile(built.wheel) as wheel:
        (name,) = (name for name in wheel.namelist() if name.endswith(".dist-info/METADATA"))
        asked = message_from_bytes(wheel.read(name)).get_all("Requires-Dist")
    waiting = [(Requirement(text), "") for text in asked or ()]
    found: set[tuple[str, str]] = set()
    while waiting:
        wanted, within = waiting.pop()
        if wanted.marker is None or wanted.marker.evaluate({"extra": within}):
            for extra in ("", *wanted.extras):
                if (wanted.name, extra) not in found:
                    found.add((wanted.name, extra))
                    waiting += [(Requirement(text), extra) for text in metadata.requires(wanted.name) or ()]
    return {name for name, _ in found}
