"""Grid files that register operations of their own, and what tells other processes of them."""

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console

from ablations.drive.backend import Options
from ablations.drive.driver import Driver
from ablations.drive.local import LocalBackend
from ablations.drive.loop import run_grid
from ablations.grid.load import load_grid
from cscdarts.errors import UserError
from cscdarts.records.run_folder import RunFolder
from cscdarts.spaces import OPERATIONS
from tests.support.records import written

GRID = '''"""A user's grid with an operation of its own."""
from cscdarts import Operation, apply_preset, protocol, register_operation, with_values


def noise(channels, stride, affine):
    import torch
    from torch import nn

    class Noise(nn.Module):
        def forward(self, x):
            return torch.randn_like(x[:, :, ::stride, ::stride])

    return Noise()


register_operation(Operation("noise", "noise", module=noise, has_weights=False))


def grid(scale):
    base = apply_preset(protocol("quickstart", "smoke"), "csc")
    yield with_values(base, {"supernet.ops": "noise,nor_conv_1x1", "data.search_fraction": 0.08,
                             "search.batch_size": 18, "search.epochs": 1, "runtime.device": "cpu"})
'''


@pytest.mark.slow
def test_workers_know_what_a_grid_file_registers(
    tmp_path: Path, own_operation: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker is another process: its task names the file, and it imports it before it reads the config."""
    monkeypatch.setenv(
        "PYTHONPATH", os.pathsep.join((str(Path(__file__).parents[3]), os.environ.get("PYTHONPATH", "")))
    )
    own_operation.append("noise")
    (tmp_path / "mine.py").write_text(GRID)
    grid = load_grid(str(tmp_path / "mine.py"), "smoke")
    assert grid.plugins == (str(tmp_path / "mine.py"),)
    driver = Driver(grid, tmp_path / "runs")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    assert run_grid(LocalBackend(driver, Options(parallel=1)), Console(file=io.StringIO())) == 0
    (state,) = driver.states()
    assert state.status == "done", state
    assert written(RunFolder(driver.path(grid.points[0])).file("result.json"))["values"]["test_error_pct"] <= 100


def test_grids_without_anything_of_their_own_carry_nothing() -> None:
    assert load_grid("quickstart", "smoke").plugins == ()


def test_other_commands_know_what_the_environment_names(tmp_path: Path) -> None:
    """`CSCDARTS_PLUGINS` names a file (or a module); without it the name is unknown."""
    (tmp_path / "mine.py").write_text(GRID)
    code = (
        "import json, sys, cscdarts\n"
        "text = '|noise~0|+|none~0|none~1|+|none~0|none~1|noise~2|'\n"
        "print(json.dumps(str(cscdarts.parse_genotype(text)) == text))\n"
        "sys.exit('torch' in sys.modules)"
    )
    root = str(Path(__file__).parents[3])
    for plugins, found in ((str(tmp_path / "mine.py"), True), ("mine", True), ("", False)):
        environment = {**os.environ, "CSCDARTS_PLUGINS": plugins, "PYTHONPATH": os.pathsep.join((root, str(tmp_path)))}
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=False
        )
        assert (done.returncode == 0) == found, done.stderr
        assert json.loads(done.stdout or "false") == found


def test_a_plugin_that_does_not_run_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "broken.py").write_text("1 / 0")
    for plugin, said in (
        ("broken.py", "ZeroDivisionError"),
        ("missing.py", r"There is no .*missing\.py\. Check the path"),
    ):
        monkeypatch.setenv("CSCDARTS_PLUGINS", str(tmp_path / plugin))
        with pytest.raises(UserError, match=said):
            OPERATIONS["nothing of this name"]
    monkeypatch.setenv("CSCDARTS_PLUGINS", "no_such_module_here")
    with pytest.raises(UserError, match="no_such_module_here"):
        OPERATIONS["nothing of this name"]


PLAIN = """from __future__ import annotations
from dataclasses import dataclass
from shared_settings import SEEDS
from cscdarts import apply_preset, protocol, with_values


@dataclass
class Setting:
    ratio: str
    seed: int


def grid(scale):
    from shared_settings import RATIO

    for s in (Setting(RATIO, seed) for seed in SEEDS):
        yield with_values(apply_preset(protocol("quickstart", scale), "csc"),
                          {"seed": s.seed, "supernet.split_ratio": s.ratio})
"""


def test_grids_that_are_valid_python_with_a_module_beside_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, seeds in (("a", (0, 1)), ("b", (2, 3, 4))):
        (tmp_path / name).mkdir()
        (tmp_path / name / "mine.py").write_text(PLAIN)
        (tmp_path / name / "shared_settings.py").write_text(f"SEEDS, RATIO = {seeds}, '1/2'\n")
        for own in ("slurm", "ablations", "reports", "random"):
            (tmp_path / name / f"{own}.py").write_text("raise RuntimeError('a file of the user')\n")
    for name, wanted in (("a", [0, 1]), ("b", [2, 3, 4]), ("a", [0, 1])):
        assert [p.config.seed for p in load_grid(str(tmp_path / name / "mine.py"), "smoke").points] == wanted
    monkeypatch.chdir(tmp_path / "b")
    assert len(load_grid("mine.py", "smoke").points) == 3
    assert not list(tmp_path.rglob("*.pyc"))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("raise SystemExit", "SystemExit: "),
        ("import sys\n\ndef grid(scale):\n    sys.exit(0)\n    yield", "failed: it ends the program .SystemExit: 0"),
        ("import no_such_helper", "failed: ModuleNotFoundError"),
        ("def grid(scale:\n", "failed: SyntaxError"),
        ("def grid(scale):\n    from no_such_helper import X\n    yield X", "failed: ModuleNotFoundError"),
    ],
)
def test_grids_that_do_not_run_are_one_sentence(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "mine.py").write_text(text)
    with pytest.raises(UserError, match=said):
        load_grid(str(tmp_path / "mine.py"), "smoke")
