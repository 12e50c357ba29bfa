"""`cscdarts doctor` as people call it: with secrets everywhere, in bare surroundings, with input that is wrong."""

import gzip
import io
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from ablations.commands import doctor as command
from ablations.doctor.asking import Subject
from ablations.doctor.show import show
from ablations.drive.driver import Driver
from ablations.grid.load import load_grid
from cscdarts.records.run_folder import RunFolder
from tests.ablations.doctor.test_bundle import FINDINGS, files_of
from tests.support.generated import tree
from tests.support.harness.grids import write_grid

ROOT = Path(__file__).parents[3]
SECRETS = [f"hunter{number}-of-ours" for number in range(16)]
#: Packages of the optional parts, hidden from a process and its children as if they were not installed.
HIDDEN = """
import importlib.machinery as machinery

_find = machinery.PathFinder.find_spec


def find_spec(name, path=None, target=None):
    hidden = {"mlflow", "pandas", "submitit", "seaborn", "sqlalchemy", "alembic", "jinja2", "matplotlib", "statsmodels"}
    return None if name.partition(".")[0] in hidden else _find(name, path, target)


machinery.PathFinder.find_spec = find_spec
"""
Call = Callable[..., tuple[int, str, str]]


def path_with(folder: Path, *programs: str) -> str:
    """A PATH with nothing but some programs."""
    folder.mkdir()
    for name in programs:
        found = shutil.which(name)
        assert found is not None
        (folder / name).symlink_to(found)
    return str(folder)


@pytest.fixture
def light(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Two subjects only, so that the command line itself is what is tried."""
    own = {"ablations.doctor.subjects.machine", "ablations.doctor.subjects.grid"}
    monkeypatch.setattr(command, "SUBJECTS", tuple(one for one in command.SUBJECTS if one.module in own))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.chdir(tmp_path)


@pytest.mark.usefixtures("light")
def test_lines_json_and_exit_codes(command_line: Call, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    code, out, _ = command_line("doctor")
    lines = out.splitlines()
    assert all(line.startswith(("good: ", "weak: ", "bad: ")) for line in lines[:-1]), out
    assert ("0 bad" in lines[-1]) == (code == 0)
    monkeypatch.setattr(command, "SUBJECTS", (Subject("x", "no.such.module", 20),))
    code, out, _ = command_line("doctor", "--json")
    found = json.loads(out)
    assert (code, found["counts"]) == (0, {"good": 0, "weak": 1, "bad": 0})
    assert set(found["findings"][0]) == {"level", "subject", "sentence", "way_out"}
    assert tree(tmp_path) == []


@pytest.mark.usefixtures("light")
@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("no-such-grid",), "no-such-grid"),
        (("--on", "nowhere"), "--on"),
        (("--on", "slurm:none"), "slurm:none"),
        (("--on", "slurm:cpu", "--slurm", "cpus_per_task=none"), "cpus_per_task"),
        (("--slurm", "environment.MY_TOKEN=hunter1-of-ours"), "--slurm"),
        (("--bundle", "there/is/none.tgz"), "--bundle"),
    ],
)
def test_wrong_input_is_one_sentence_and_code_2(
    words: tuple[str, ...], told: str, command_line: Call, tmp_path: Path
) -> None:
    code, out, err = command_line("doctor", *words)
    assert (code, out, len(err.splitlines())) == (2, "", 1)
    assert told in err
    assert SECRETS[1] not in err
    assert tree(tmp_path) == []


@pytest.mark.usefixtures("light")
def test_a_bundle_never_takes_the_place_of_a_file(command_line: Call, tmp_path: Path) -> None:
    (tmp_path / "b.tgz").write_text("mine")
    code, _, err = command_line("doctor", "--bundle", "b.tgz")
    assert (code, (tmp_path / "b.tgz").read_text()) == (2, "mine")
    assert "b.tgz" in err


def test_on_a_terminal_it_is_a_table_of_any_width() -> None:
    from rich.console import Console

    for width in (40, 60, 120):
        console = Console(width=width, force_terminal=True, color_system=None, record=True, file=io.StringIO())
        show(FINDINGS, console)
        text = console.export_text()
        assert max(map(len, text.splitlines())) <= width
        assert all(word in " ".join(text.split()) for word in ("good", "weak", "changed", "→ commit", "1 bad"))


@pytest.fixture
def planted(tmp_path: Path) -> tuple[Path, dict[str, str]]:
    """A user's folder with secrets wherever one can stand, and the environment of its shell."""
    home, work = tmp_path / "home" / "carol", tmp_path / "home" / "carol" / "nas"
    work.mkdir(parents=True)
    (home / ".netrc").write_text(f"machine x login y password {SECRETS[0]}\n")
    (home / ".mlflow").mkdir()
    (home / ".mlflow" / "credentials").write_text(f"[mlflow]\nmlflow_tracking_password = {SECRETS[0]}\n")
    path = path_with(tmp_path / "bin", "git")
    subprocess.run(["git", "init", "-q", str(work)], check=True)
    url = f"https://carol:{SECRETS[1]}@git.lab.org/x.git"
    subprocess.run(["git", "-C", str(work), "remote", "add", "origin", url], check=True)
    grid = write_grid(work / "g.py", [f"note {SECRETS[2]}"])
    Path(grid).write_text(Path(grid).read_text() + f"\nKEY = {SECRETS[3]!r}\n")
    (work / "site.yaml").write_text(
        f"description: of {SECRETS[4]}\naccount: quarks\nenvironment:\n  PLAIN: {SECRETS[5]}\n  A_TOKEN: {SECRETS[6]}\n"
        f"setup: |\n  login {SECRETS[7]}\n  export B={SECRETS[8]}\n  module load x\n"
        f"container: apptainer exec --env C={SECRETS[9]} /images/nas.sif\nextra:\n  comment: {SECRETS[10]}\n"
    )
    driver = Driver(load_grid(grid, "smoke"), work / "runs")
    (point,) = driver.grid.points
    folder = RunFolder(driver.path(point))
    folder.create(point.config)
    folder.log(f"cannot log in with {SECRETS[11]}, password={SECRETS[12]}")
    folder.log(f"reading {work}/data/x.png of carol from 10.1.2.3 on n17.lab.org, carol@lab.org")
    (folder.path / "environment.json").write_text(json.dumps({"hostname": "knoten9", "starts": [{"hostname": "x77"}]}))
    folder.log(f"the job said: {SECRETS[5]}, {SECRETS[7]}, {SECRETS[8]}, {SECRETS[9]}, {SECRETS[10]}")
    folder.log("knoten9 and x77 were slow")
    (folder.path / "failure.json").write_text(json.dumps({
        "stage": "search", "kind": "error", "message": f"https://u:{SECRETS[13]}@host/x is away", "time": 1.0,
        "traceback": f'File "{home}/lib/x.py", line 1\nBearer {SECRETS[14]}',
    }))  # fmt: skip
    return work, {
        "PATH": path, "HOME": str(home), "USER": "carol", "LANG": "C.UTF-8", "PYTHONPATH": str(ROOT),
        "OMP_NUM_THREADS": "1",
        "MLFLOW_TRACKING_URI": f"http://carol:{SECRETS[15]}@127.0.0.1:9/", "MLFLOW_TRACKING_TOKEN": SECRETS[0],
        "LOG_PASSWORD": SECRETS[11], "SBATCH_ACCOUNT": "quarks",
    }  # fmt: skip


@pytest.mark.slow
def test_no_secret_and_no_name_is_in_the_output_or_in_any_byte_of_the_bundle(
    planted: tuple[Path, dict[str, str]],
) -> None:
    work, variables = planted
    before = tree(work.parent)
    words = ["g.py", "--scale", "smoke", "--on", "slurm:./site.yaml", "--slurm", f"environment.D_SECRET={SECRETS[3]}"]
    done = subprocess.run(
        [sys.executable, "-m", "ablations.cli", "doctor", *words, "--json", "--bundle", "b.tgz"],
        cwd=work, env=variables, capture_output=True, text=True, timeout=500, check=False,
    )  # fmt: skip
    assert done.returncode == 1, done.stderr  # no SLURM, no tracking server
    found = json.loads(done.stdout)
    bad = {one["subject"] for one in found["findings"] if one["level"] == "bad"}
    assert {"SLURM", "store"} <= bad
    data = (work / "b.tgz").read_bytes()
    files = files_of(data)
    assert {"README.txt", "findings.json", "facts.json", "packages.txt", "store.json", "grid.json", "status.json",
            "profile.json", "job-search.sbatch", "job-retrain.sbatch"} <= set(files)  # fmt: skip
    (log,) = (text for name, text in files.items() if name.endswith("log.txt"))
    assert "DATA/x.png of USER from IP-1" in log
    every = gzip.decompress(data).decode(errors="replace")
    for secret in SECRETS:
        assert secret not in done.stdout + done.stderr + every
    for name in (
        "carol",
        "quarks",
        "n17.lab.org",
        "knoten9",
        "x77",
        str(work),
        str(work.parent),
        str(ROOT),
        os.uname().nodename,
    ):
        assert name not in every, name
    assert [name for name in tree(work.parent) if name not in before] == ["nas/b.tgz"]


@pytest.mark.slow
def test_bare_surroundings_are_findings_and_nothing_is_written(tmp_path: Path) -> None:
    (tmp_path / "hidden").mkdir()
    (tmp_path / "hidden" / "sitecustomize.py").write_text(HIDDEN)
    work = tmp_path / "work"
    work.mkdir(mode=0o555)
    home = tmp_path / "home"
    home.mkdir(mode=0o000)
    variables = {
        "PATH": path_with(tmp_path / "bin"), "HOME": str(home), "LANG": "C", "OMP_NUM_THREADS": "1",
        "PYTHONPATH": os.pathsep.join([str(ROOT), str(tmp_path / "hidden")]), "PYTHONDONTWRITEBYTECODE": "1",
    }  # fmt: skip
    limited = (
        f"import os, resource, sys; resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64)); os.execv({sys.executable!r}, "
    )
    limited += "[sys.executable, '-m', 'ablations.cli', 'doctor', '--on', 'slurm:cpu'])"
    done = subprocess.run(
        [sys.executable, "-c", limited], cwd=work, env=variables, capture_output=True, timeout=500, check=False,
    )  # fmt: skip
    out = done.stdout.decode("ascii")
    assert (done.returncode, done.stderr) == (1, b"")
    for told in (
        "bad: SLURM: sbatch, squeue, sacct, scontrol, scancel, srun missing", "bad: SLURM: submitit is not installed",
        "weak: MLflow: MLflow is not installed", "Way out: pip install", "weak: limits: 64 files",
        "good: profile: slurm:cpu asks for", "good: torch: torch ",
    ):  # fmt: skip
        assert told in out, out
    assert "git" in out
    assert "could not be looked at" not in out
    assert list(work.iterdir()) == []
    home.chmod(0o755)
    assert list(home.iterdir()) == []
