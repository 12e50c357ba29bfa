"""Runs: every preset goes the whole way, a killed run ends with the bits of an undisturbed one, guards stop what is
broken."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from cscdarts.errors import NumericalError, Stopped, UserError
from cscdarts.records.checkpoint import read_state
from cscdarts.records.run_folder import RunFolder, read_json
from cscdarts.settings.config import RunConfig
from cscdarts.settings.keys import search_key
from cscdarts.settings.methods import PRESETS, apply_preset
from cscdarts.settings.metrics import METRICS
from cscdarts.settings.overrides import with_values
from cscdarts.settings.protocols import protocol
from cscdarts.spaces.genotype import parse_genotype
from cscdarts.spaces.space import SPACES
from cscdarts.training.bilevel import ArchitectureStep
from cscdarts.training.cell_choice.derive import derive
from cscdarts.training.one_shot import one_shot_scores
from cscdarts.training.retrain import retrain
from cscdarts.training.search import SearchRun, search
from tests.support.records import written

TIMES = {"search_epoch_time_s", "retrain_epoch_time_s", "search_time_s", "retrain_time_s", "peak_memory_mib"}
CPU = torch.device("cpu")


class Crash(BaseException):
    """Stands for SIGKILL: nothing is saved on the way out."""


def never() -> bool:
    return False


def silent(line: str) -> None:
    pass


def tiny(preset: str = "csc", space: str = "nasbench201", /, **values: Any) -> RunConfig:
    """Two epochs of three steps on a tenth of the digits."""
    base = protocol("quickstart", "smoke")
    sizes = {
        "supernet.space": space,
        "supernet.cells": 3 if space == "darts" else 1,
        "data.search_fraction": 0.08,
        "search.batch_size": 18,
        "search.alpha_lr": 0.1,
        "evaluation.cells": 3 if space == "darts" else 1,
        "evaluation.batch_size": 360,
        "evaluation.epochs": 2,
        "evaluation.drop_path": 0.2,
        "runtime.device": "cpu",
        "runtime.cut_off": "train",  # what two epochs find may lead nowhere
    }
    return with_values(apply_preset(base, preset), {**sizes, **values})


def go(config: RunConfig, path: Path, stop: Callable[[], bool] = never) -> RunFolder:
    folder = RunFolder(path)
    folder.create(config)
    search(config, folder, stop, silent)
    derive(config, folder, stop)
    retrain(config, folder, stop, silent)
    return folder


def fingerprint(folder: RunFolder) -> dict[str, Any]:
    """All that must be equal bit for bit: numbers without times, parameters, genotype, final states."""

    def timeless(values: dict[str, float]) -> dict[str, float]:
        return {key: value for key, value in values.items() if key not in TIMES}

    state = read_state(folder.file("retrain.pt"), CPU)
    searched = read_state(folder.file("checkpoint.pt"), CPU)
    return {
        "curves": [(line["stage"], line["epoch"], line["step"], timeless(line["values"])) for line in folder.curves()],
        "alphas": folder.alphas(),
        "genotype": read_json(folder.file("genotype.json")),
        "result": timeless(written(folder.file("result.json"))["values"]),
        "network": {key: value.numpy().tobytes() for key, value in state["network"].items()},
        "supernet": {key: value.numpy().tobytes() for key, value in searched["supernet"].items()},
    }


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    torch.set_num_threads(1)
    return fingerprint(go(tiny(), tmp_path_factory.mktemp("whole")))


@pytest.mark.parametrize("space", ["nasbench201", "darts"])
@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_goes_the_whole_way(preset: str, space: str, tmp_path: Path) -> None:
    values = {"random-ws": {"search.random_candidates": 3}, "darts-pt": {"search.derive_finetune": 0}}.get(preset, {})
    folder = go(tiny(preset, space, **{"evaluation.epochs": 1, "search.epochs": 1, **values}), tmp_path)
    result = written(folder.file("result.json"))
    assert set(result["values"]) <= set(METRICS)
    assert 0 <= result["values"]["test_error_pct"] <= 100
    assert result["data"]["label"] == "digits"
    assert parse_genotype(result["genotype"]).space == space
    for line in folder.curves():
        assert set(line["values"]) <= set(METRICS)
    if preset != "random":
        assert folder.alphas()


def test_same_seed_same_genotype_same_numbers(undisturbed: dict[str, Any], tmp_path: Path) -> None:
    assert fingerprint(go(tiny(), tmp_path / "again")) == undisturbed
    assert fingerprint(go(tiny(seed=1), tmp_path / "other"))["alphas"] != undisturbed["alphas"]


@pytest.mark.parametrize("point", range(20))
def test_killed_anywhere_and_resumed_is_undisturbed(undisturbed: dict[str, Any], tmp_path: Path, point: int) -> None:
    """Stops and crashes at random steps of search and retraining; a crash saves nothing on its way out."""
    draw = np.random.default_rng(point)
    calls, kill_at, kind = 0, int(draw.integers(1, 7)), ("stop", "crash")[point % 2]

    def disturbed() -> bool:
        nonlocal calls, kill_at
        calls += 1
        if calls < kill_at:
            return False
        calls, kill_at = 0, int(draw.integers(1, 7))
        if kind == "crash":
            raise Crash
        return True

    config, interruptions = tiny(**{"runtime.checkpoint_minutes": 0.0 if point % 4 == 3 else 5.0}), 0
    while True:
        try:
            folder = go(config, tmp_path, disturbed)
            break
        except (Stopped, Crash):
            interruptions += 1
            assert interruptions < 60
    assert interruptions
    assert fingerprint(folder) == undisturbed


@pytest.mark.slow
def test_sigkill_of_a_real_process(undisturbed: dict[str, Any], tmp_path: Path) -> None:
    config = tiny()
    script = (
        "import sys, json, torch; from pathlib import Path; torch.set_num_threads(1)\n"
        "from cscdarts.settings.overrides import build; from cscdarts.records.run_folder import RunFolder\n"
        "from cscdarts.training.search import search\n"
        "import time\n"
        "def slow(): time.sleep(0.3); return False\n"
        "config = build(json.loads(sys.argv[1])); folder = RunFolder(Path(sys.argv[2])); folder.create(config)\n"
        "search(config, folder, slow, lambda line: None)\n"
    )
    command = [sys.executable, "-c", script, config.model_dump_json(), str(tmp_path)]
    for _ in range(2):
        process = subprocess.Popen(command, env={**os.environ, "OMP_NUM_THREADS": "1"})
        deadline = time.monotonic() + 120
        grown = tmp_path / "checkpoint.pt"
        before = grown.stat().st_mtime_ns if grown.exists() else 0
        while process.poll() is None and time.monotonic() < deadline:
            if grown.exists() and grown.stat().st_mtime_ns != before:
                time.sleep(0.4)  # well inside the next epoch's steps
                break
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert fingerprint(go(config, tmp_path)) == undisturbed


def test_finished_stages_are_not_run_again(tmp_path: Path) -> None:
    folder = go(tiny(), tmp_path)
    before = {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    go(tiny(), folder.path)
    assert {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == before


def test_a_folder_of_another_run_is_refused(tmp_path: Path) -> None:
    RunFolder(tmp_path).create(tiny())
    with pytest.raises(UserError, match="seed is 0 there and 3 here"):
        search(tiny(seed=3), RunFolder(tmp_path), never, silent)
    assert [path.name for path in tmp_path.iterdir()] == ["config.json"]


# --- guards, schedules, probes -----------------------------------------------------------------


def test_a_loss_that_is_not_finite_stops_the_search_with_its_place(tmp_path: Path) -> None:
    config = tiny(**{"search.lr": 1e30, "search.lr_min": 0.0})
    folder = RunFolder(tmp_path)
    folder.create(config)
    with pytest.raises(
        NumericalError, match=r"validation loss of the architecture step is not finite at epoch 0, step 0"
    ):
        search(config, folder, never, silent)
    assert read_state(folder.file("broken.pt"), CPU)["hash"] == search_key(config).id
    assert not folder.has("search")


def test_an_architecture_parameter_that_is_not_finite_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def poisoned(self: ArchitectureStep, *_: Any) -> list[torch.Tensor]:
        return [torch.full_like(a, float("nan")) for a in self.architecture]

    monkeypatch.setattr(ArchitectureStep, "gradient", poisoned)
    # The weight step after it would see the NaN too; without one only alpha is broken.
    monkeypatch.setattr(SearchRun, "move_weights", lambda self, batch: None)
    folder = RunFolder(tmp_path)
    folder.create(tiny())
    with pytest.raises(NumericalError, match=r"alphas\.cell"):
        search(tiny(), folder, never, silent)


def test_a_retraining_that_diverges_is_stopped(tmp_path: Path) -> None:
    config = tiny(**{"evaluation.lr": 1e30})
    with pytest.raises(NumericalError, match="retrain"):
        go(config, tmp_path)
    assert not RunFolder(tmp_path).has("result")


def test_alpha_rests_during_the_warm_up(tmp_path: Path) -> None:
    folder = go(tiny(**{"search.epochs": 3, "search.alpha_warmup": 2, "evaluation.epochs": 0}), tmp_path)
    first, second, third = (line["alpha"] for line in folder.alphas())
    assert first == second
    assert second != third


def test_probes_are_recorded_every_k_epochs(tmp_path: Path) -> None:
    values = {"search.cosine_every": 2, "search.hessian_every": 2, "evaluation.epochs": 0}
    folder = go(tiny(**values), tmp_path)
    found = [set(line["values"]) for line in folder.curves() if line["stage"] == "search"]
    for name in ("hvp_cosine", "alpha_hessian_eigenvalue"):
        assert [name in keys for keys in found] == [False, True]


def test_probes_change_no_number(tmp_path: Path, undisturbed: dict[str, Any]) -> None:
    folder = go(tiny(**{"search.cosine_every": 1, "search.hessian_every": 1}), tmp_path)
    assert fingerprint(folder)["supernet"] == undisturbed["supernet"]


@pytest.mark.parametrize(
    "values",
    [
        {"supernet.split_pick": "random"},
        {"search.amp": "bf16"},
        {"search.accumulate": 2},
        {"search.amp": "bf16", "runtime.kernels": "portable"},
        {"search.weighting": "gumbel-hard", "search.temperature": 10.0, "search.temperature_end": 0.1},
        {"search.weighting": "dirichlet", "search.alpha_noise": 0.3, "search.skip_dropout": 0.3},
        {"search.penalty": "log-sum-exp", "search.penalty_weight": 5.0, "search.penalty_rise": "linear"},
        pytest.param(
            {"supernet.space": "darts_s4", "supernet.cells": 3, "evaluation.cells": 3, "search.order": 1},
            marks=pytest.mark.slow,
        ),
    ],
    ids=str,
)
def test_variants_of_the_loop_resume_too(values: dict[str, Any], tmp_path: Path) -> None:
    config = tiny(**values, **{"evaluation.epochs": 1})
    whole = fingerprint(go(config, tmp_path / "whole"))
    calls = 0

    def once() -> bool:
        nonlocal calls
        calls += 1
        return calls == 4

    with pytest.raises(Stopped):
        go(config, tmp_path / "parts", once)
    assert fingerprint(go(config, tmp_path / "parts")) == whole


@pytest.mark.parametrize("space", ["darts_s1", "darts_s2", "darts_s3", "darts_s4"])
def test_the_sub_spaces_go_the_whole_way(space: str, tmp_path: Path) -> None:
    sizes = {"supernet.cells": 3, "evaluation.cells": 3, "evaluation.epochs": 1, "search.epochs": 1}
    folder = go(tiny(**sizes, **{"supernet.space": space, "search.order": 1}), tmp_path)
    cell = parse_genotype(str(written(folder.file("genotype.json"))["text"]), space)
    assert {edge.op for edge in cell.main_edges} <= set(SPACES[space].ops) - {"none"}
    assert 0 <= written(folder.file("result.json"))["values"]["test_error_pct"] <= 100


def test_one_shot_scores_are_reproducible_accuracies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = go(tiny(**{"evaluation.epochs": 0}), tmp_path)
    cells = [parse_genotype(f"|{op}~0|+|{op}~0|{op}~1|+|{op}~0|{op}~1|{op}~2|") for op in ("nor_conv_3x3", "none")]
    scores = one_shot_scores(folder.config(), folder, cells)
    said: list[str] = []
    monkeypatch.setattr("cscdarts.training.one_shot._SAY_EVERY", -1)
    assert scores == one_shot_scores(folder.config(), folder, cells, report=said.append)
    assert said[-1] == f"one-shot scores: {len(cells)} of {len(cells)} cells"
    assert all(0 <= score <= 100 for score in scores)


def test_metric_lines_survive_a_torn_end(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.record("search", 0, 3, {"search_train_loss": 1.0})
    with folder.file("metrics.jsonl").open("a") as file:
        file.write('{"stage": "search", "epo')
    folder.record("search", 1, 3, {"search_train_loss": 0.5})
    folder.record("search", 1, 3, {"search_train_loss": 0.4})
    assert [line["values"]["search_train_loss"] for line in folder.curves()] == [1.0, 0.4]


def test_compile_falls_back_with_a_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(model: torch.nn.Module, **_: Any) -> Callable[..., Any]:
        def fail(*_: Any) -> None:
            raise RuntimeError("no compiler")

        return fail

    monkeypatch.setattr(torch, "compile", broken)
    lines: list[str] = []
    config = tiny(**{"search.compile": True, "search.epochs": 1})
    folder = RunFolder(tmp_path)
    folder.create(config)
    search(config, folder, never, lines.append)
    assert sum("torch.compile failed" in line for line in lines) == 1
    assert folder.has("search")


@pytest.mark.parametrize("dataset", ["image-folder", "imagenet"])
def test_a_tree_of_images_goes_the_whole_way(dataset: str, tmp_path: Path) -> None:
    """Search, derivation and retraining on a class-per-folder tree, held whole and streamed."""
    draw = np.random.default_rng(0)
    for part in ("train", "val"):
        for name in ("ape", "bee", "cow"):
            (tmp_path / "tree" / part / name).mkdir(parents=True)
            for number in range(8):
                pixels = draw.integers(0, 256, (16, 16, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(tmp_path / "tree" / part / name / f"{number}.png")
    values = {
        "data.dataset": dataset,
        "data.image_size": 16,
        "data.search_fraction": 1.0,
        "search.batch_size": 6,
        "evaluation.batch_size": 8,
        "evaluation.color_jitter": True,
        "runtime.data_root": str(tmp_path / "tree"),
        "runtime.workers": 0,
    }
    result = written(go(tiny(**values), tmp_path / "run").file("result.json"))
    assert result["data"]["test_images"] == 24
    assert "tree" in result["data"]["label"]
    assert 0 <= result["values"]["test_error_pct"] <= 100


def test_config_of_a_folder_is_read_back(tmp_path: Path) -> None:
    config = tiny()
    RunFolder(tmp_path).create(config)
    assert RunFolder(tmp_path).config() == config
    (tmp_path / "config.json").write_text(json.dumps({**config.model_dump(mode="json"), "nonsense": 1}))
    with pytest.raises(UserError, match="nonsense"):
        RunFolder(tmp_path).config()
