"""The command line: quick help, one sentence for bad input, exit codes, nothing half-written."""

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from ablations import cli
from tests.support.harness.grids import write_grid

ROOT = Path(__file__).parents[2]


def cscdarts(*words: str, cwd: Path, engine: str = "real") -> "subprocess.CompletedProcess[str]":
    """Run the command as a user does, with the real engine or the tiny one."""
    script = ["-m", "ablations.cli"] if engine == "real" else ["-m", "tests.support.harness.drive"]
    command = [sys.executable, *script, *words]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    env.pop("MLFLOW_TRACKING_URI", None)
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, env=env, check=False, timeout=300)


def test_help_imports_nothing_heavy() -> None:
    heavy = ("torch", "pandas", "mlflow", "numpy", "submitit", "sklearn", "matplotlib")
    code = f"""
import sys
from ablations import cli
try:
    cli.main(["--help"])
except SystemExit as end:
    assert end.code == 0, end
print([m for m in {heavy!r} if m in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip().endswith("[]")
    for name in cli.COMMANDS:
        assert name in done.stdout


@pytest.mark.parametrize("name", list(cli.COMMANDS))
def test_every_registered_command_exists_and_has_the_help_it_promises(name: str) -> None:
    command = cli.LazyGroup().get_command(None, name)  # type: ignore[arg-type]
    assert command is not None
    assert command.help


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["ablate", "run", "quickstrat"], "GRID: 'quickstrat' is not valid; allowed: "),
        (["ablate", "run", "quickstart", "--set", "search.epochs=-1"], "search.epochs"),
        (["ablate", "run", "quickstart", "--set", "nonsense=1"], "--set: 'nonsense'"),
        (["ablate", "run", "quickstart", "--on", "pbs"], "local or slurm:PROFILE"),
        (["ablate", "run", "quickstart", "--on", "slurm:nowhere"], "slurm:cpu, slurm:gpu"),
        (["ablate", "run", "quickstart", "--on", "slurm:cpu", "--slurm", "partion=x"], "Did you mean partition?"),
        (["ablate", "run", "quickstart", "--slurm", "partition=x"], "only with --on slurm:PROFILE"),
        (["ablate", "watch", "quickstart"], "a grid that was run"),
        (["ablate", "logs", "quickstart", "zz"], "HASH: 'zz'"),
        (["ablate", "status", "a b"], "GRID: 'a b'"),
    ],
)
def test_bad_input_is_one_sentence_and_code_2(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], words: list[str], said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as end:
        cli.main(words)
    err = capsys.readouterr().err
    assert end.value.code == 2
    assert said in err
    assert len(err.strip().splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def test_debug_shows_the_traceback_wherever_it_stands(tmp_path: Path) -> None:
    done = cscdarts("ablate", "status", "quickstrat", "--debug", cwd=tmp_path)
    assert "Traceback" in done.stderr
    assert "UserError" in done.stderr


def test_usage_errors_are_code_2(tmp_path: Path) -> None:
    assert cscdarts("ablate", "run", cwd=tmp_path).returncode == 2
    assert cscdarts("ablate", "run", "quickstart", "--scale", "tiny", cwd=tmp_path).returncode == 2
    assert cscdarts("nonsense", cwd=tmp_path).returncode == 2
    assert cscdarts("ablate", "run", "quickstart", "--parallel", "0", cwd=tmp_path).returncode == 2


def test_a_runs_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("a file where the folder should be")
    done = cscdarts("ablate", "run", "quickstart", "--scale", "smoke", cwd=tmp_path)
    assert done.returncode == 2
    assert "runs cannot be written: Not a directory. Choose another place with --runs." in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["runs"]


def test_plan_writes_nothing_and_prints_the_script(tmp_path: Path) -> None:
    source = write_grid(tmp_path / "mine.py", ["", ""])
    done = cscdarts("ablate", "plan", source, "--on", "slurm:cpu", "--slurm", "partition=fat", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "would run 2" in done.stdout
    assert "node-hours unknown" in done.stdout
    assert done.stdout.count("#SBATCH --partition=fat") == 2
    assert "--dependency=aftercorr:JOB_OF_SEARCH" in done.stdout
    assert [path.name for path in tmp_path.iterdir()] == ["mine.py"]


def test_plan_estimates_from_what_runs_have_cost(tmp_path: Path) -> None:
    from ablations.grid.load import load_grid

    source = write_grid(tmp_path / "mine.py", ["", "", ""])
    first, *_ = load_grid(source, "smoke").points
    folder = tmp_path / "runs" / "other" / first.hash
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(first.config.model_dump_json())
    (folder / "search.json").write_text(json.dumps({"values": {"search_time_s": 1000.0}}))
    (folder / "result.json").write_text(json.dumps({"values": {"retrain_time_s": 800.0, "test_error_pct": 5.0}}))
    done = cscdarts("ablate", "plan", source, cwd=tmp_path)
    assert "about 1.00 node-hours by measured cost" in done.stdout  # the first run's search and retraining are there


def test_status_before_any_run(tmp_path: Path) -> None:
    source = write_grid(tmp_path / "mine.py", ["", ""])
    done = cscdarts("ablate", "status", source, cwd=tmp_path)
    assert done.returncode == 0
    assert "2 runs: 2 new" in done.stdout


@pytest.mark.slow
def test_a_grids_life_on_the_command_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)

    def here(*words: str, answer: str = "") -> tuple[int, str]:
        """What needs no process of its own."""
        monkeypatch.setattr("sys.stdin", io.StringIO(answer))
        with pytest.raises(SystemExit) as ended:
            cli.main(words)
        return int(ended.value.code or 0), capsys.readouterr().out

    source = write_grid(tmp_path / "mine.py", ["", "raise", ""])
    tiny = {"cwd": tmp_path, "engine": "tiny"}
    done = cscdarts("ablate", "run", "mine.py", "--scale", "smoke", "--parallel", "2", **tiny)  # type: ignore[arg-type]
    assert done.returncode == 1, done.stdout
    assert "3 runs: 2 done, 1 failed" in done.stdout
    assert "failed (error): search: ValueError: the loss went astray" in done.stdout
    assert (tmp_path / "mlflow.db").exists()

    _, status = here("ablate", "status", "mine.py")
    assert "failed (error)" in status
    failed = next(line.split()[0] for line in status.splitlines() if "failed (error)" in line)
    _, logs = here("ablate", "logs", "mine.py", failed)
    assert "search: begins" in logs
    assert "ValueError: the loss went astray" in logs
    assert here("ablate", "watch", "mine.py")[0] == 1

    (tmp_path / "runs" / "mine" / "cure").touch()
    again = cscdarts("ablate", "retry", "mine.py", **tiny)  # type: ignore[arg-type]
    assert again.returncode == 0, again.stdout
    assert "3 done" in again.stdout

    # The grid loses a point; its folder goes to the trash, and only when a person says so.
    write_grid(Path(source), ["", "raise"])
    runs = tmp_path / "runs" / "mine"
    before = sorted(path.name for path in runs.iterdir() if path.is_dir() and path.name != "jobs")
    code, asked = here("ablate", "prune", "mine.py", answer="n\n")
    assert code == 1
    assert "Move 1 run, 1 search, 1 retraining to runs/.trash?" in asked
    assert sorted(path.name for path in runs.iterdir() if path.is_dir() and path.name != "jobs") == before
    assert here("ablate", "prune", "mine.py", "--yes")[0] == 0
    assert len([path for path in runs.iterdir() if path.is_dir() and path.name != "jobs"]) == 2
    assert "every run folder is named" in here("ablate", "prune", "mine.py")[1]
