"""Schedules at known epochs: weight learning rates, the identity's scale, drop-path."""

from typing import Any

import pytest

from cscdarts.settings.config import EvaluationConfig, RunConfig
from cscdarts.settings.methods import apply_preset
from cscdarts.settings.overrides import with_values
from cscdarts.training.schedules import cosine_lr, drop_path, evaluation_lr, identity_scale


def evaluation(**values: Any) -> EvaluationConfig:
    return EvaluationConfig.model_validate({"epochs": 10, "lr": 1.0, "lr_min": 0.0, **values})


def rates(**values: Any) -> list[float]:
    return [evaluation_lr(evaluation(**values), epoch) for epoch in range(10)]


def test_cosine_schedule_at_its_ends_and_middle() -> None:
    assert cosine_lr(0.025, 0.001, 0, 50) == pytest.approx(0.025)
    assert cosine_lr(0.025, 0.001, 25, 50) == pytest.approx(0.013)
    assert cosine_lr(0.025, 0.001, 50, 50) == pytest.approx(0.001)
    # At a third of the way the cosine is 1/2: three quarters of the range are left.
    assert cosine_lr(1.0, 0.2, 2, 6) == pytest.approx(0.2 + 0.8 * 0.75)


def test_cosine_of_the_retraining_ends_above_its_least_rate() -> None:
    found = rates(lr=0.025, lr_min=0.005)
    assert found[0] == 0.025
    assert found[5] == pytest.approx(0.015)
    assert 0.005 < found[9] < 0.006


def test_linear_schedule_with_a_least_rate() -> None:
    assert rates(schedule="linear", lr_min=0.5) == pytest.approx([1 - 0.05 * epoch for epoch in range(10)])


def test_exponential_schedule_falls_by_a_constant_factor() -> None:
    assert rates(schedule="exponential", lr=0.1, lr_gamma=0.97) == pytest.approx([0.1 * 0.97**k for k in range(10)])


@pytest.mark.parametrize("schedule", ["cosine", "linear", "exponential"])
def test_warm_up_rises_to_the_rate_and_the_schedule_goes_on_at_its_epoch(schedule: str) -> None:
    found = rates(schedule=schedule, lr=0.5, warmup_epochs=5)
    assert found[:5] == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.5])
    assert found[5:] == rates(schedule=schedule, lr=0.5)[5:]


def test_decay_of_the_identity() -> None:
    config = with_values(apply_preset(RunConfig(), "dartsminus"), {"search.epochs": 50})
    assert [identity_scale(config, epoch) for epoch in (0, 10, 25)] == [1.0, 0.8, 0.5]
    half = with_values(config, {"supernet.identity_scale": 0.5})
    assert identity_scale(half, 25) == 0.25
    assert identity_scale(apply_preset(RunConfig(), "csc"), 49) == 1.0


def test_drop_path_rises_linearly_from_0_and_never_reaches_its_limit() -> None:
    assert [drop_path(evaluation(drop_path=0.2), epoch) for epoch in range(10)] == pytest.approx(
        [0.02 * epoch for epoch in range(10)]
    )
    assert drop_path(evaluation(epochs=0, drop_path=0.2), 0) == 0
    assert drop_path(evaluation(epochs=1, drop_path=0.2), 1) == pytest.approx(0.2)
