"""The site followed: all commands of a page, one after the other, in one folder, as its reader types them.

What is run in their place where they take hours, a cluster or a download stands in `tests/site/substitutions.py`.
"""

import contextlib
import io
import json
import os
import re
import signal
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from ablations import cli
from cscdarts.records.damage import ASIDE
from cscdarts.records.run_folder import RunFolder
from cscdarts.spaces import SPACES
from docs.hooks.site import ROOT
from slurm.backends.local import NO_WORD
from slurm.job import CLAIM, REQUEUED, Job, Task
from tests.site.pages import Command, blocks, commands, navigation, source
from tests.site.substitutions import FOLLOWED, checked, rewritten

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("site")]
PAGES = [page for page in navigation() if commands(page) or any(one.kind == "python" for one in blocks(page))]
#: Code that is only compiled: what it needs is not part of the project.
ONLY_READ = {("spaces.md", "surrogate.model.ensemble_members"), ("mlflow.md", "runs:/ID/model")}


class InlinePool:
    """Has the interface of `slurm.backends.local.LocalPool`; the one worker is this process and ends before `start`
    returns, so that PyTorch is imported once."""

    def __init__(self, folder: Path) -> None:
        self.failed = False

    def start(self, tasks: Sequence[Task], workers: int, threads: int | None) -> None:
        before, handlers = dict(os.environ), {n: signal.getsignal(n) for n in (signal.SIGUSR2, signal.SIGTERM)}
        try:
            Job(tuple(tasks))()
        except RuntimeError:  # all its tasks have failed, and said so themselves
            self.failed = True
        finally:
            for number, handler in handlers.items():
                signal.signal(number, handler)
            os.environ.clear()
            os.environ.update(before)

    def alive(self) -> int:
        return 0

    def held(self) -> set[str]:
        return set()

    def errors(self) -> list[str]:
        return [NO_WORD] if self.failed else []

    def stop(self) -> None:
        pass


class Desk:
    """Where the commands are typed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for page in navigation():
            for block in blocks(page):
                if block.saved_as:
                    (folder / block.saved_as).write_text(block.text, encoding="utf-8")
        # The quickstart of these pages has the name of the one that is shipped and the runs of the page on own grids.
        (folder / "quickstart.py").write_text((folder / "mygrid.py").read_text(encoding="utf-8"), encoding="utf-8")
        self._photos()
        assert self.call("ablate", "run", "quickstart.py", "--scale", "smoke")[0] == 0
        self.hash = min(path.parent.name for path in folder.glob("runs/quickstart/*/config.json"))

    def _photos(self) -> None:
        import numpy as np
        from PIL import Image

        draw = np.random.default_rng(0)
        for part, count in (("train", 40), ("test", 4)):
            for name in ("cat", "dog"):
                place = self.folder / "photos" / part / name
                place.mkdir(parents=True)
                for number in range(count):
                    pixels = draw.integers(0, 256, (16, 16, 3), dtype=np.uint8)
                    Image.fromarray(pixels).save(place / f"{part}-{number}.png")

    def call(self, *words: str) -> tuple[int, str]:
        """Run the program in this process: its exit code and all that it said."""
        said = io.StringIO()
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said), pytest.raises(SystemExit) as end:
            cli.main(words)
        return int(end.value.code or 0), said.getvalue()

    def type(self, command: Command) -> None:
        """Do what a line of a page says, or what the table says instead."""
        if command.words[0] == "ls":
            subprocess.run(command.words, check=True, capture_output=True)
            return
        if command.words[0] != "cscdarts":  # looked at by `test_commands.py`
            return
        words, rules = rewritten(command)
        if words is None:
            checked(command.words, *rules[-1].tested_in)
            return
        # A page's own run stands for one of the reader's, whether it says HASH or shows the beginning of one.
        code, said = self.call(*(re.sub(r"HASH|^[0-9a-f]{8}$", self.hash, word) for word in words))
        assert code == 0, f"{command}\nas {' '.join(words)}\n{said[-3000:]}"


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory, empty_store: Path) -> Iterator[Desk]:
    """A desk with the pages' files saved and the quickstart run."""
    folder = tmp_path_factory.mktemp("reader")
    (folder / "mlflow.db").write_bytes(empty_store.read_bytes())
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        patch.setattr("ablations.drive.local.LocalPool", InlinePool)
        patch.setattr("sys.stdin", io.StringIO("n\n" * 9))
        yield Desk(folder)


@pytest.mark.parametrize("page", PAGES)
def test_a_page_is_followed(desk: Desk, page: str) -> None:
    if page in FOLLOWED:
        checked((page,), FOLLOWED[page], page)
        return
    code = [block for block in blocks(page) if block.kind == "python" and not block.saved_as]
    lines: list[Any] = sorted([*commands(page), *code], key=lambda one: one.line)
    names: dict[str, Any] = {}
    spaces = set(SPACES.names())
    try:
        for one in lines:
            if isinstance(one, Command):
                desk.type(one)
            elif any(page == where and text in one.text for where, text in ONLY_READ):
                compile(one.text, page, "exec")
            else:
                with contextlib.redirect_stdout(io.StringIO()):
                    exec(compile(one.text, f"{page}:{one.line}", "exec"), names)
    finally:
        for name in set(SPACES.names()) - spaces:
            SPACES.unregister(name)


def test_what_is_shown_is_what_came_out(desk: Desk) -> None:
    """The pages' runs are real ones: all four are done, and each has a test error."""
    folders = [RunFolder(path.parent) for path in desk.folder.glob("runs/quickstart/*/config.json")]
    assert len(folders) == 4
    assert all("test_error_pct" in folder.file("result.json").read_text(encoding="utf-8") for folder in folders)


FILES = source("reference/files.md")
#: Files that a run need not have: a checkpoint before the newest, where there was but one.
MAY_LACK = {"checkpoint.previous.pt", "retrain.previous.pt"}


def _first_cells(section: str) -> set[str]:
    """What stands as code in the first column of a section of the page on files."""
    text = FILES.read_text(encoding="utf-8")
    body = text[text.index(f"{{ #{section} }}") :].split("\n#", 1)[0]
    return {name for row in re.findall(r"^\| (`.*?) \|", body, re.MULTILINE) for name in re.findall(r"`([^`]+)`", row)}


@pytest.mark.parametrize(
    ("section", "places"),
    [("run", "runs/quickstart/[0-9a-f]*"), ("search", "runs/searches/*"), ("retraining", "runs/retrainings/*")],
)
def test_every_file_of_a_run_is_described(desk: Desk, section: str, places: str) -> None:
    there = {path.name for path in desk.folder.glob(f"{places}/*") if not path.name.startswith(".")}
    assert there - _first_cells(section) == set()
    assert _first_cells(section) - there <= MAY_LACK


def test_every_key_of_the_json_files_is_described(desk: Desk) -> None:
    # So large a learning rate leaves no finite loss.
    assert desk.call("ablate", "run", "quickstart.py", "--scale", "smoke", "--set", "search.lr=1e30")[0] == 1
    assert desk.call("report", "quickstart", "--out", "described", "--formats", "csv")[0] == 0
    text = FILES.read_text(encoding="utf-8")
    names = re.findall(r"^### `(\w+\.json)`", text, re.MULTILINE)
    assert {"result.json", "failure.json", "grid.json", "report.json"} <= set(names)
    for name in names:
        found: set[str] = set()
        for path in (*desk.folder.glob(f"runs/**/{name}"), *desk.folder.glob(f"described/{name}")):
            found |= json.loads(path.read_text(encoding="utf-8")).keys()
        told = _first_cells(name.replace(".", "-"))
        assert found - told == set(), name
        assert told - found <= {"genotype"}, name  # of searches that name a cell themselves


def test_files_that_are_there_at_times_are_named_as_the_code_names_them() -> None:
    told = _first_cells("at-times")
    assert {CLAIM, REQUEUED, ASIDE, "failure.json"} <= told
    code = "".join(
        path.read_text(encoding="utf-8") for room in ("slurm", "ablations") for path in (ROOT / room).rglob("*.py")
    )
    assert [name for name in told if name not in {CLAIM, REQUEUED, ASIDE} and f'"{name}"' not in code] == []
