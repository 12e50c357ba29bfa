"""`cscdarts export` on the command line: runs and genotypes, and one sentence for everything else."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import cscdarts
from ablations.cli import main
from cscdarts.export import onnx_file
from cscdarts.export.card import read_card
from cscdarts.records.run_folder import RunFolder
from tests.support.exports import NB201, batch, finished_run


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    return finished_run(tmp_path_factory.mktemp("finished"))


def call(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as ended:
        main([str(word) for word in words])
    out, err = capsys.readouterr()
    return int(ended.value.code or 0), out, err


@pytest.mark.parametrize("name", ["net.safetensors", "net.pt2"])
def test_a_run_is_exported_and_loaded_again(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, finished: RunFolder, name: str
) -> None:
    code, out, err = call(capsys, "export", finished.path, "--out", tmp_path / name)
    assert (code, err) == (0, "")
    assert out.splitlines()[:2] == [str(tmp_path / name), f"{tmp_path / name}.card.md"]
    assert "test error " in out
    assert "logits differ from the network's by at most" in out
    loaded = cscdarts.load(tmp_path / name)
    assert loaded(batch(4, 3, 8)).shape == (4, 20)
    assert loaded.card.trained


def test_the_form_is_named_where_the_ending_does_not_tell_it(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, finished: RunFolder
) -> None:
    code, out, _ = call(
        capsys, "export", finished.path, "--format", "torch-export", "--out", tmp_path / "net.bin", "--json"
    )
    found = json.loads(out)
    assert code == 0
    assert found["format"] == "torch-export"
    assert found["largest_difference"] <= 1e-5
    card = cscdarts.load(tmp_path / "net.bin").card
    assert read_card(json.dumps(found["card"])) == card
    assert found["sha256"] in Path(found["card_file"]).read_text()


def test_a_genotype_is_exported_untrained_and_says_so(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    words = ("export", "PDARTS", "--scale", "paper", "--out", tmp_path / "net.safetensors", "--json")
    code, out, err = call(capsys, *words)
    card = json.loads(out)["card"]
    assert code == 0
    assert "untrained" in err
    assert (card["trained"], card["known_as"], card["result"]) == (False, "PDARTS", None)
    assert card["params"] == 3_433_798  # P-DARTS at 36 channels, 20 cells, 10 classes
    assert "untrained" in (tmp_path / "net.safetensors.card.md").read_text()


def test_options_shape_a_genotypes_network(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    words = (
        "export", NB201, "--out", tmp_path / "net.safetensors", "--seed", 4, "--classes", 7, "--image-size", 16,
        "--image-channels", 2, "--set", "evaluation.channels=6", "--preset", "csc", "--scale", "smoke", "--json",
    )  # fmt: skip
    code, out, _ = call(capsys, *words)
    card = json.loads(out)["card"]
    assert code == 0
    assert (card["seed"], card["classes"], card["channels"]) == (4, 7, 6)
    assert (card["images"]["size"], card["images"]["channels"], card["images"]["mean"]) == (16, 2, None)
    assert card["config"]["supernet"]["identity"] == "cell"
    assert cscdarts.load(tmp_path / "net.safetensors")(batch(1, 2, 16)).shape == (1, 7)


def test_a_derived_cell_whose_retraining_has_not_finished_can_be_had_untrained(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, finished: RunFolder
) -> None:
    shutil.copytree(finished.path, tmp_path / "run")
    (tmp_path / "run" / "result.json").unlink()
    code, _, err = call(capsys, "export", tmp_path / "run", "--out", tmp_path / "net.safetensors")
    assert code == 2
    assert "has no result.json. Its retraining has not finished" in err
    offered = err.split("cscdarts export ")[1].split(" gives")[0]
    code, _, err = call(capsys, "export", offered, "--scale", "smoke", "--out", tmp_path / "net.safetensors")
    assert code == 0
    assert "untrained" in err


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("RUN", "--out", "net.h5"), "--format: None is not valid; allowed: safetensors, torch-export, onnx."),
        (("RUN", "--format", "pickle", "--out", "net"), "--format: 'pickle' is not valid"),
        (("RUN", "--format", "onnx", "--out", "net.pt2"), ".pt2 is the ending of torch-export"),
        (("RUN", "--out", "folder.pt2"), "A folder has this name."),
        (("RUN", "--out", "thesis.pt2"), "--force"),
        (("RUN", "--out", "net.pt2", "--classes", "4"), "--classes"),
        (("RUN", "--out", "net.pt2", "--set", "seed=4"), "--set"),
        (("RUN", "--out", "net.pt2", "--data-root", "nowhere"), "There is no nowhere."),
        (("folder.pt2", "--out", "net.pt2"), "genotype"),
        (("nonsense", "--out", "net.pt2"), "genotype: 'nonsense' is not valid"),
        (("PDARTS", "--out", "net.pt2", "--protocol", "mnist"), "cifar10"),
        (("PDARTS", "--out", "net.pt2", "--scale", "huge"), "smoke"),
        (("PDARTS", "--out", "net.pt2", "--image-size", "30"), "--image-size: 30 is not valid"),
        (("PDARTS", "--out", "net.pt2", "--set", "supernet.space=nasbench201"), "It is that of the genotype."),
        (("PDARTS", "--out", "net.pt2", "--set", "data.dataset=image-folder"), "--classes"),
        (("PDARTS",), "Missing option '--out'"),
    ],
)  # fmt: skip
def test_refusals_are_one_sentence_and_leave_nothing(
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    finished: RunFolder,
    words: tuple[str, ...],
    sentence: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder.pt2").mkdir()
    (tmp_path / "thesis.pt2").write_text("a thesis")
    code, out, err = call(capsys, "export", *(finished.path if word == "RUN" else word for word in words))
    assert (code, out) == (2, "")
    assert sentence in err
    assert "unexpected" not in err
    assert {path.name for path in tmp_path.iterdir()} == {"folder.pt2", "thesis.pt2"}
    assert (tmp_path / "thesis.pt2").read_text() == "a thesis"


def test_without_the_packages_of_onnx_the_command_that_installs_them_is_named(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, finished: RunFolder
) -> None:
    monkeypatch.setattr("cscdarts.extras.find_spec", lambda name: None)
    code, _, err = call(capsys, "export", finished.path, "--out", tmp_path / "net.onnx")
    assert code == 2
    assert "onnx, onnxscript and onnxruntime, which are not installed: pip install 'cscdarts[export]'" in err
    assert not list(tmp_path.iterdir())


def test_a_run_goes_to_onnx_and_back(capsys: pytest.CaptureFixture[str], tmp_path: Path, finished: RunFolder) -> None:
    for package in onnx_file.PACKAGES:
        pytest.importorskip(package)
    code, out, err = call(capsys, "export", finished.path, "--format", "onnx", "--out", tmp_path / "net.onnx", "--json")
    assert (code, err) == (0, "")
    assert json.loads(out)["largest_difference"] <= 1e-5
    assert cscdarts.load(tmp_path / "net.onnx")(batch(4, 3, 8)).shape == (4, 20)
    code, _, _ = call(capsys, "export", finished.path, "--out", tmp_path / "net.onnx")
    assert code == 0, "an export of ours is replaced"


def test_the_public_name_needs_no_torch_until_it_is_called() -> None:
    code = "import sys, cscdarts; cscdarts.load; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
