"""What a plan says of GPUs: kinds of runs, memory, what fits, hours that are estimates until a finished run replaces
them."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ablations import cli
from ablations.drive.backend import Options, read_backend
from ablations.drive.driver import Driver
from ablations.grid.estimate import Measured
from ablations.grid.forecast import NO_GPUS, GpuOffer, Kind, kinds, retraining_text, search_text, total_hours
from ablations.grid.load import load_grid
from cscdarts.forecast.gpus import GPUS
from cscdarts.forecast.runs import retraining_forecast, search_forecast
from cscdarts.settings.config import RunConfig
from cscdarts.settings.methods import apply_preset
from cscdarts.settings.overrides import with_values
from cscdarts.settings.protocols import protocol

GRID = '''"""A grid for tests of forecasts."""
from cscdarts import apply_preset, protocol, with_values

def grid(scale):
    base = apply_preset(protocol("nasbench201", "smoke"), "csc")
    for seed in (0, 1):
        yield with_values(base, {"seed": seed})
'''


def config(**values: Any) -> RunConfig:
    return with_values(apply_preset(protocol("nasbench201", "smoke"), "csc"), values)


def told(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    with pytest.raises(SystemExit) as end:
        cli.main(list(words))
    assert not end.value.code
    return capsys.readouterr().out


def test_equal_kinds_are_counted_together_and_forecast_as_their_runs_are() -> None:
    searched = [config(seed=0), config(seed=1), config(**{"search.order": 1})]
    found = kinds(searched, [config()], Measured(), NO_GPUS)
    assert [(kind.stage, kind.count) for kind in found] == [("search", 2), ("search", 1), ("retrain", 1)]
    whole, retrained = search_forecast(config()), retraining_forecast(config())
    assert whole is not None
    assert retrained is not None
    assert found[0].memory_gb == whole.memory_gb
    assert found[0].hours == {name: whole.hours(gpu) for name, gpu in GPUS.items()}
    assert found[0].fits["A100"] == int(80 // whole.memory_gb)
    assert "(estimate)" in found[0].sentence()
    hours = total_hours(found)["V100"]
    parts = [kind.count * kind.hours["V100"] for kind in found]
    assert hours == pytest.approx(sum(parts))


def test_a_finished_run_takes_the_place_of_an_estimate() -> None:
    past = Measured(searches=[(config(), 1800.0)])
    search, retraining = kinds([config(seed=3)], [config()], past, NO_GPUS)
    assert search.measured
    assert set(search.hours.values()) == {0.5}
    assert "0.50, as finished ones took" in search.sentence()
    assert not retraining.measured
    assert (search.values()["basis"], retraining.values()["basis"]) == ("measured", "estimate")


def test_what_fits_the_offered_gpu_is_said() -> None:
    def kind(memory: float | None, sharing: int = 1, taken: float | None = 3.0) -> Kind:
        return Kind("search", "a search", 1, taken, {"A100": 2}, {"A100": 1.0}, False, GpuOffer(memory, sharing))

    assert kind(10.0).at_once == 3
    assert "3 at once on a GPU of 10 GB" in kind(10.0).sentence()
    assert "does not fit a GPU of 2 GB" in kind(2.0).sentence()
    assert "runs_per_gpu=4 is more" in kind(10.0, sharing=4).sentence()
    assert "at once on A100 2" in kind(None).sentence()
    assert kind(10.0, taken=None).at_once is None
    assert "not known" in kind(10.0, taken=None).sentence()


AS_PROFILES_DO = {
    "gpus_per_node": 0, "gres": None, "nodes": 1, "tasks_per_node": 1, "gpu_mem_gb": None, "runs_per_gpu": 1,
}  # fmt: skip


def test_a_profile_offers_what_it_asks_for() -> None:
    def resources(**values: Any) -> SimpleNamespace:
        return SimpleNamespace(**{**AS_PROFILES_DO, **values})

    assert GpuOffer.of_profile(resources()) is None
    assert GpuOffer.of_profile(resources(gres="gpu:a100:1")) == GpuOffer()
    offer = GpuOffer.of_profile(resources(gpus_per_node=8, nodes=2, tasks_per_node=8, gpu_mem_gb=40, runs_per_gpu=2))
    assert offer is not None
    assert (offer.sharing, offer.processes) == (2, 16)
    assert offer.memory_gb == pytest.approx(42.95, abs=0.01)  # 40 GiB


@pytest.mark.parametrize(
    ("profile", "search", "retrain"),
    [("cpu", None, None), ("gpu", 1, 1), ("multi-node-ddp", 1, 16)],
)
def test_the_profiles_of_the_distribution(
    profile: str, search: int | None, retrain: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("g.py").write_text(GRID)
    offers = read_backend(f"slurm:{profile}")(Driver(load_grid("g.py", "smoke"), Path("runs")), Options()).gpus()
    found = {stage: None if offer is None else offer.processes for stage, offer in offers.items()}
    assert found == {"search": search, "retrain": retrain}


def test_a_plan_tells_it_where_runs_get_gpus_or_when_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    Path("g.py").write_text(GRID)
    plan = ("ablate", "plan", "g.py", "--scale", "smoke", "--no-script")
    assert "GPU" not in told(capsys, *plan)
    assert "GPU" not in told(capsys, *plan, "--on", "slurm:gpu", "--no-forecast")
    text = told(capsys, *plan, "--on", "slurm:gpu")
    assert "2 x search nasbench201 on digits" in text
    assert "2 x retraining nasbench201 on digits" in text
    assert "GPU-hours together: V100" in text
    assert "an estimate, see docs/gpu.md" in text
    values = json.loads(told(capsys, *plan, "--forecast", "--json"))["gpu"]
    assert [kind["count"] for kind in values["kinds"]] == [2, 2]
    assert set(values["gpu_hours"]) == set(GPUS)
    assert sorted(path.name for path in Path().iterdir()) == ["g.py"]


@pytest.mark.parametrize(
    ("text", "values"),
    [
        (search_text, {"supernet.split_ratio": "1/4"}),
        (search_text, {"supernet.edge_norm": True}),
        (search_text, {"supernet.split_pick": "random"}),
        (search_text, {"supernet.identity": "edge"}),
        (search_text, {"search.order": 1}),
        (search_text, {"search.amp": "bf16"}),
        (search_text, {"search.accumulate": 2}),
        (search_text, {"search.checkpointing": "cell"}),
        (search_text, {"search.epochs": 9}),
        (search_text, {"data.image_size": 16}),
        (retraining_text, {"evaluation.channels": 10}),
        (retraining_text, {"evaluation.epochs": 9}),
        (retraining_text, {"evaluation.split_eval": True}),
        (retraining_text, {"evaluation.amp": "fp16"}),
    ],
)
def test_what_costs_differently_is_told_apart(text: Any, values: dict[str, Any]) -> None:
    assert text(config(**values)) != text(config())
    assert text(config(seed=7)) == text(config())
