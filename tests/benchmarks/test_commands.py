"""`cscdarts check` and `cscdarts benchmark` on the command line."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from ablations.cli import main
from tests.support.official_files import OfficialFiles, mean_accuracy


@pytest.fixture
def cscdarts(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Runs the command and gives (exit code, stdout, stderr)."""

    def run(*arguments: object) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as stop:
            main([str(argument) for argument in arguments])
        out, err = capsys.readouterr()
        return int(stop.value.code or 0), out, err

    return run


Run = Callable[..., tuple[int, str, str]]


@pytest.mark.parametrize("form", ["nats", "nasbench201"])
def test_index_check_verify_show(files: OfficialFiles, tmp_path: Path, cscdarts: Run, form: str) -> None:
    official = files.folder if form == "nats" else files.pth
    index = tmp_path / "three.parquet"
    code, out, _ = cscdarts("benchmark", "index", f"--{form}", official, "--out", index)
    assert (code, index.exists()) == (0, True)
    assert "3 architectures" in out
    code, out, _ = cscdarts("benchmark", "verify", index, "--against", f"{form}:{official}", "--sample", 3)
    assert code == 0
    assert "numbers agree" in out
    code, out, _ = cscdarts("check", "11", "--benchmark", f"index:{index}", "--json")
    found = json.loads(out)
    assert code == 0
    assert found["index"] == 11
    assert found["datasets"]["cifar10"]["test_acc"] == pytest.approx(mean_accuracy(11, "cifar10", "ori-test", 200))
    code, out, _ = cscdarts("check", "11", "--benchmark", f"index:{index}", "--epochs", 12)
    assert code == 0
    assert "holds 3 of 15,625" in out
    assert f"{mean_accuracy(11, 'cifar10', 'ori-test', 12):.2f}" in out
    code, out, _ = cscdarts("benchmark", "show", f"index:{index}", "--top", 1)
    assert code == 0
    assert "trials [777, 888, 999]" in out


def test_csv_is_a_source(files: OfficialFiles, tmp_path: Path, cscdarts: Run) -> None:
    code, out, _ = cscdarts("benchmark", "index", "--csv", files.table, "--out", tmp_path / "all.parquet")
    assert code == 0
    assert "15,625 architectures" in out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("check", "11", "--benchmark", "nats:/nowhere"), "D-X-Y/NATS-Bench"),
        (("check", "nonsense"), "RUN|ARCH"),
        (("check", "11", "--benchmark", "other"), "embedded, pip, index:FILE"),
        (("check", "11", "--cells", "some"), "--cells"),
        (("benchmark", "index"), "--nats, --nasbench201, --csv and --pip"),
        (("benchmark", "index", "--csv", "a", "--nats", "b"), "exactly one"),
        (("benchmark", "verify", "/nowhere.parquet", "--against", "nats:/nowhere"), "cscdarts benchmark index"),
        (("benchmark", "build", "--seeds", "1,x"), "--seeds"),
        (("benchmark", "build", "--work", "/nowhere", "--assemble-only"), "--work"),
    ],
)
def test_wrong_input_is_one_sentence_and_exit_code_2(arguments: tuple[str, ...], said: str, cscdarts: Run) -> None:
    code, out, err = cscdarts(*arguments)
    assert code == 2
    assert out == ""
    assert said in err
    assert err.count("\n") == 1
    assert "Traceback" not in err


def test_embedded_needs_no_file(cscdarts: Run) -> None:
    code, out, _ = cscdarts("check", "1835", "--json")
    found = json.loads(out)
    assert code == 0
    assert list(found["datasets"]) == ["digits"]
    assert found["benchmark"]["holds"] == 15_625


def test_looking_up_a_cell_imports_neither_torch_nor_pandas_nor_scipy() -> None:
    code = (
        "import sys\nfrom ablations.cli import main\n"
        "try: main(['check', '11', '--json'])\nexcept SystemExit as stop: assert not stop.code\n"
        "heavy = ('torch', 'pandas', 'scipy', 'mlflow', 'nats_bench')\n"
        "print([name for name in heavy if name in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "[]"
    assert json.loads(done.stdout)["index"] == 11
