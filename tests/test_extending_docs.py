"""`docs/extending.md` followed to the letter: each recipe in a copy of the repository, files counted, commands run."""

import csv
import json
import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from cscdarts.records.run_folder import RunFolder
from tests.test_structure import MOST_MODULES, PACKAGES

pytestmark = pytest.mark.xdist_group("extending")
ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "extending.md"
#: How many files of the packages an extension may touch.
MOST = {"operation": 0, "space": 0, "switch": 3, "table": 2, "benchmark": 3, "scheduler": 3}
NEW = re.compile(r"New file `([^`]+)`:")
EDIT = re.compile(r"In `([^`]+)`, (after|before|in place of) the line `([^`]+)`, (?:add|write):")
RUN = re.compile(r"Then\b.*:")
BLOCK = re.compile(r"```(\w+)\n(.*?)```", re.DOTALL)


@dataclass(frozen=True)
class Edit:
    """One step: a line of a file before, after or instead of which `text` comes; a whole new file without a line."""

    path: str
    text: str
    place: str = ""
    line: str = ""

    def make(self, root: Path) -> None:
        """Make it.

        Errors:
            AssertionError: the file is there already, or the line does not stand in it exactly once.
        """
        path = root / self.path
        if not self.line:
            assert not path.exists(), f"{self.path} is no new file"
            path.write_text(self.text, encoding="utf-8")
            return
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
        found = [number for number, line in enumerate(lines) if line.strip() == self.line]
        assert len(found) == 1, f"{self.path} has the line {len(found)} times: {self.line}"
        start = found[0] + (self.place == "after")
        lines[start : found[0] + 1 if self.place == "in place of" else start] = [self.text]
        path.write_text("".join(lines), encoding="utf-8")


@dataclass
class Recipe:
    """One section of the page."""

    edits: list[Edit] = field(default_factory=list)
    commands: str = ""

    @property
    def touched(self) -> set[str]:
        """The files of the packages that it touches."""
        return {edit.path for edit in self.edits if edit.path.split("/")[0] in PACKAGES}


def read_recipes(text: str) -> dict[str, Recipe]:
    """Section title without its article -> its recipe.

    Errors:
        ValueError: a block of code that no step introduces.
    """
    found = {}
    for section in re.split(r"^## An? ", text, flags=re.MULTILINE)[1:]:
        title, _, body = section.partition("\n")
        recipe = found[title] = Recipe()
        end = 0
        for block in BLOCK.finditer(body):
            step = body[end : block.start()].strip().rsplit("\n\n", 1)[-1].replace("\n", " ")
            end, code = block.end(), block[2]
            if new := NEW.fullmatch(step):
                recipe.edits.append(Edit(new[1], code))
            elif edit := EDIT.fullmatch(step):
                recipe.edits.append(Edit(edit[1], code, edit[2], edit[3]))
            elif RUN.fullmatch(step) and block[1] == "sh":
                recipe.commands += code
            else:
                raise ValueError(f"{title}: no step says what to do with the block after: {step}")
    return found


RECIPES = read_recipes(PAGE.read_text(encoding="utf-8"))


def apply(name: str, root: Path) -> None:
    """Copy the repository to `root` and make a recipe's edits there."""
    for folder in (*PACKAGES, "tests", "docs"):
        shutil.copytree(ROOT / folder, root / folder, ignore=shutil.ignore_patterns("__pycache__"))
    for file in ("pyproject.toml", "README.md", "CONTRIBUTING.md"):
        shutil.copy(ROOT / file, root / file)
    for edit in RECIPES[name].edits:
        edit.make(root)


@dataclass(frozen=True)
class Desk:
    """Where the commands of the recipes are typed: each in its own copy, with one folder of runs and one store.

    Attributes:
        folder: the copies lie in it by name, beside `runs`, `mlflow.db` and the two words `cscdarts` and `python`.
    """

    folder: Path

    def follow(self, name: str) -> str:
        """Make a recipe's edits and run its commands; returns what they print."""
        root = self.folder / name
        apply(name, root)
        (root / "runs").symlink_to(self.folder / "runs")
        if name not in ("operation", "space"):
            shutil.copy(self.folder / "operation" / "noise.py", root)
        return self.type(name, RECIPES[name].commands)

    def type(self, name: str, commands: str, code: int = 0) -> str:
        """Run commands in a recipe's copy; returns what they print."""
        root = self.folder / name
        variables = {
            "PATH": f"{self.folder}:{os.environ['PATH']}",
            "PYTHONPATH": str(root),
            "MLFLOW_TRACKING_URI": f"sqlite:///{self.folder}/mlflow.db",
            "OMP_NUM_THREADS": "1",
        }
        done = subprocess.run(
            ["sh", "-e", "-c", commands],
            cwd=root,
            env={**os.environ, **variables},
            capture_output=True,
            text=True,
            check=False,
        )
        said = done.stdout + done.stderr
        assert done.returncode == code, said
        return said

    def run(self, grid: str, seed: int = 0) -> Path:
        """The folder of the finished run of a grid that has a seed."""
        (found,) = (
            path.parent
            for path in self.folder.glob(f"runs/{grid}/*/config.json")
            if json.loads(path.read_text(encoding="utf-8"))["seed"] == seed
        )
        return found


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Desk:
    """A desk on which the first recipe has been followed: two others go on with its grid."""
    desk = Desk(tmp_path_factory.mktemp("desk"))
    (desk.folder / "runs").mkdir()
    for word, command in (("cscdarts", "-m ablations.cli"), ("python", "")):
        (desk.folder / word).write_text(f'#!/bin/sh\nexec "{sys.executable}" {command} "$@"\n')
        (desk.folder / word).chmod(0o755)
    desk.follow("operation")
    return desk


def _sources(root: Path) -> list[Path]:
    return [path for package in PACKAGES for path in (root / package).rglob("*.py")]


def test_the_page_has_the_six_recipes() -> None:
    assert RECIPES.keys() == MOST.keys()
    assert all(recipe.edits and recipe.commands for recipe in RECIPES.values())


def test_steps_are_read_to_the_letter(tmp_path: Path) -> None:
    """A line that is not there, or twice, a file that is there, and code that no step introduces are all told."""
    page = "## A way\n\nIn `cscdarts/a.py`, {} the line\n`old = 1`, add:\n\n```python\nnew = 2\n```\n"
    (tmp_path / "cscdarts").mkdir()
    module = tmp_path / "cscdarts" / "a.py"
    for place, wanted in (
        ("after", "old = 1\nnew = 2\n"),
        ("before", "new = 2\nold = 1\n"),
        ("in place of", "new = 2\n"),
    ):
        recipe = read_recipes(page.format(place))["way"]
        module.write_text("old = 1\n")
        recipe.edits[0].make(tmp_path)
        assert (module.read_text(), recipe.touched) == (wanted, {"cscdarts/a.py"})
    for text in ("older = 1\n", "old = 1\nold = 1\n"):
        module.write_text(text)
        with pytest.raises(AssertionError, match="times: old = 1"):
            recipe.edits[0].make(tmp_path)
    with pytest.raises(AssertionError, match="no new file"):
        Edit("cscdarts/a.py", "").make(tmp_path)
    with pytest.raises(ValueError, match="no step says"):
        read_recipes(page.format("somewhere near"))


@pytest.mark.parametrize("name", MOST)
def test_a_recipe_touches_few_files(name: str, tmp_path: Path) -> None:
    apply(name, tmp_path)
    before = {path.relative_to(ROOT): path.read_bytes() for path in _sources(ROOT)}
    after = {path.relative_to(tmp_path): path.read_bytes() for path in _sources(tmp_path)}
    changed = {str(path) for path in before.keys() | after.keys() if before.get(path) != after.get(path)}
    assert changed == RECIPES[name].touched
    assert len(changed) <= MOST[name]


def test_the_folders_have_room_for_all_recipes() -> None:
    """Small folders stay small when all recipes are followed: each has room for the modules that they add to it."""
    added = Counter((ROOT / edit.path).parent for recipe in RECIPES.values() for edit in recipe.edits if not edit.line)
    there = Counter(path.parent for path in _sources(ROOT) if path.name != "__init__.py")
    assert {str(folder): n for folder in added if (n := there[folder] + added[folder]) > MOST_MODULES} == {}


@pytest.mark.slow
def test_all_recipes_together_keep_the_rules_of_the_house(desk: Desk) -> None:
    """Format, lint, arrows between rooms, small folders, and the list of modules as its writer leaves it."""
    apply("switch", desk.folder / "all")
    for name in RECIPES.keys() - {"switch"}:
        for edit in RECIPES[name].edits:
            edit.make(desk.folder / "all")
    desk.type(
        "all",
        """python -m ruff format --no-cache --check .
        python -m ruff check --no-cache .
        python -c "from importlinter.cli import lint_imports_command as command; command()" --no-cache
        python -m tests.test_docs
        python -m pytest -q -p no:cacheprovider tests/test_docs.py tests/test_structure.py \
            -k 'modules_is or module_says or cycle'
        """,
    )
    folders = Counter(path.parent for path in _sources(desk.folder / "all") if path.name != "__init__.py")
    assert max(folders.values()) <= MOST_MODULES


@pytest.mark.slow
def test_an_operation(desk: Desk) -> None:
    config = json.loads((desk.run("noise") / "config.json").read_text())
    assert config["supernet"]["ops"] == ["noise", "nor_conv_1x1"]
    assert "<svg" in (desk.folder / "operation" / "noise.svg").read_text()


@pytest.mark.slow
def test_a_space(desk: Desk) -> None:
    assert "would run 1\n" in desk.follow("space")
    root = desk.folder / "space"
    genotype = json.loads((root / "tried" / "genotype.json").read_text())
    assert (genotype["space"], genotype["text"].count("~")) == ("four_nodes", 10)
    assert 0 <= json.loads(RunFolder(root / "tried").file("result.json").read_text())["values"]["test_error_pct"] <= 100
    assert not (root / "tried" / "check.json").exists()
    assert "<svg" in (root / "tried.svg").read_text()


@pytest.mark.slow
def test_a_switch(desk: Desk) -> None:
    assert " passed" in desk.follow("switch")
    config = json.loads((desk.folder / "switch" / "half" / "config.json").read_text())
    assert config["supernet"]["bypass_scale"] == 0.5
    show = "cscdarts config --protocol quickstart | tail -n 1"
    assert desk.type("switch", show) == desk.type("operation", show)
    other = show.replace("quickstart", "quickstart --set supernet.bypass_scale=0.5")
    assert desk.type("switch", other) != desk.type("switch", show)


@pytest.mark.slow
def test_a_table(desk: Desk) -> None:
    desk.follow("table")
    with (desk.folder / "table" / "report" / "tables" / "t6d_slowest.csv").open() as file:
        rows = {row["hash"]: row for row in csv.DictReader(file)}
    run = desk.run("noise")
    values = json.loads(RunFolder(run).file("search.json").read_text())["values"]
    assert float(rows[run.name]["search_time_s"]) == pytest.approx(values["search_time_s"])
    assert ">T6d · " in (desk.folder / "table" / "report" / "index.html").read_text()


@pytest.mark.slow
def test_a_benchmark(desk: Desk) -> None:
    found = desk.follow("benchmark")
    assert "holds 1 of 15,625 cells" in found
    assert re.search(r"cifar10 +200 +90\.50 +93\.25 +1 +100\.00 +0\.00", found)
    for broken, said in (
        ("[]", "it holds no columns"),
        ("{", "Expecting property name"),
        ('{"params": {}}', "params is no column of accuracies"),
        ('{"cifar10_test_acc_200": {"|none~0|": 101}}', "is 101"),
    ):
        (desk.folder / "benchmark" / "broken.json").write_text(broken)
        refused = desk.type("benchmark", "cscdarts check 0 --benchmark json:broken.json", code=2)
        assert said in refused
        assert refused.count("\n") == 1


@pytest.mark.slow
def test_a_scheduler(desk: Desk) -> None:
    """A worker outlives the command that starts it; one that is cancelled ends, and its run is told as cancelled."""
    followed = desk.follow("scheduler")
    assert "1 runs handed to 1 workers" in followed
    assert "1 runs: 1 done" in followed
    assert (desk.run("noise", seed=1) / "genotype.json").exists()
    submit = "cscdarts ablate run noise.py --scale smoke --set seed=2 --set search.epochs=60 --on detached:19 --no-wait"
    cancelled = desk.type("scheduler", f"{submit}; cscdarts ablate cancel noise.py")
    assert "1 jobs cancelled" in cancelled
    look = "until cscdarts ablate status --brief noise.py | grep '1 runs: 1 cancelled'; do sleep 1; done"
    desk.type("scheduler", f'timeout 120 sh -c "{look}"')
    refused = desk.type("scheduler", "cscdarts ablate run noise.py --on detached:soon", code=2)
    assert "detached:0 to detached:19" in refused
