"""What runs are said to take: by hand where a hand can count, and GPUs as a roofline has them."""

import pytest

from cscdarts.forecast.counting import Launch
from cscdarts.forecast.gpus import BANDWIDTH_SHARE, GPUS, LAUNCH_S, OUTSIDE_BYTES, PEAK_SHARE
from cscdarts.forecast.runs import data_shape, retraining_forecast, search_forecast, typical_cell
from cscdarts.settings.config import RunConfig
from cscdarts.settings.methods import apply_cell, apply_preset
from cscdarts.settings.overrides import with_values
from cscdarts.settings.protocols import protocol
from cscdarts.spaces.known import KNOWN_GENOTYPES


def config(**values: object) -> RunConfig:
    base = apply_preset(protocol("nasbench201", "smoke"), "csc")
    return with_values(base, {"data.dataset": "cifar10", "data.search_fraction": 1.0, **values})


def test_a_launch_waits_for_memory_or_for_arithmetic_and_a_step_for_its_host() -> None:
    gpu = GPUS["A100"]
    moving, counting = Launch("add", 10**9), Launch("convolution", 10, 10**12)
    assert gpu.kernel_s(moving) == pytest.approx(1 / (BANDWIDTH_SHARE * 2039))
    assert gpu.kernel_s(counting) == pytest.approx(1 / (PEAK_SHARE * 156))
    assert gpu.kernel_s(Launch("convolution", 10, 10**12, depthwise=True)) == pytest.approx(1 / (PEAK_SHARE * 19.5))
    assert gpu.kernel_s(Launch("convolution", 10, 10**12, half=True)) == pytest.approx(1 / (PEAK_SHARE * 312))
    assert gpu.step_s({moving: 2, counting: 1}) == pytest.approx(2 * gpu.kernel_s(moving) + gpu.kernel_s(counting))
    assert gpu.step_s({Launch("add", 8): 1000}) == pytest.approx(1000 * LAUNCH_S)


def test_every_gpu_has_a_source() -> None:
    assert set(GPUS) == {"V100", "A100", "H100", "RTX 4090"}
    assert all("NVIDIA" in gpu.source for gpu in GPUS.values())


def test_steps_are_taken_as_often_as_a_search_takes_them() -> None:
    found = search_forecast(config(**{"search.epochs": 10, "search.alpha_warmup": 3, "search.batch_size": 100}))
    assert found is not None
    assert found.times == {"weight": 2500, "alpha_2nd": 1750, "validation": 5000}
    first = search_forecast(config(**{"search.order": 1, "search.epochs": 10}))
    assert first is not None
    assert set(first.times) == {"weight", "alpha_1st", "validation"}
    shared = search_forecast(config(**{"search.strategy": "random-ws"}))
    assert shared is not None
    assert set(shared.times) == {"weight", "validation"}
    assert search_forecast(config(**{"search.strategy": "random"})) is None


def test_hours_are_seconds_of_steps_times_steps() -> None:
    found = retraining_forecast(config(**{"evaluation.epochs": 3, "evaluation.batch_size": 100}))
    assert found is not None
    assert found.times == {"retrain": 1500}
    gpu = GPUS["V100"]
    assert found.hours(gpu) == pytest.approx(1500 * gpu.step_s(found.work["retrain"]) / 3600)
    assert found.memory_gb == pytest.approx((found.peak + OUTSIDE_BYTES) / 1e9)
    assert found.fit(3 * found.memory_gb + 0.01) == 3
    assert found.fit(0.5) == 0


def test_data_on_the_device_are_counted_and_streamed_ones_not() -> None:
    settings = config()
    cifar = data_shape(settings, "cifar10")
    assert cifar is not None
    assert cifar.resident == 60_000 * 3 * 32 * 32
    imagenet = data_shape(settings, "imagenet")
    assert imagenet is not None
    assert (len(imagenet.counts), imagenet.size, imagenet.resident) == (1000, 224, 0)
    assert data_shape(settings, "image-folder") is None
    assert search_forecast(config(**{"data.dataset": "image-folder"})) is None
    assert retraining_forecast(config(**{"data.dataset": "image-folder"})) is None


def test_a_given_cell_is_the_one_that_is_counted() -> None:
    base = protocol("cifar10", "smoke")
    assert typical_cell(apply_cell(base, "PDARTS")) == KNOWN_GENOTYPES["PDARTS"]
    assert typical_cell(base) == KNOWN_GENOTYPES["DARTS_V2"]
    assert retraining_forecast(with_values(base, {"evaluation.epochs": 0})) is None


def test_a_batch_on_several_gpus_takes_its_share_of_each() -> None:
    alone = retraining_forecast(config(**{"evaluation.batch_size": 128}))
    shared = retraining_forecast(config(**{"evaluation.batch_size": 128}), processes=4)
    quarter = retraining_forecast(config(**{"evaluation.batch_size": 32}))
    assert alone is not None
    assert shared is not None
    assert quarter is not None
    assert shared.peak == quarter.peak < alone.peak
    assert shared.times == alone.times
