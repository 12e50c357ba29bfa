"""What breaks is named at the step and by the number where it broke, in both orders and in both stages."""

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from cscdarts.data.source import Batch
from cscdarts.errors import NumericalError
from cscdarts.records.run_folder import RunFolder
from cscdarts.settings.config import RunConfig
from cscdarts.settings.overrides import build, with_values
from cscdarts.spaces import parse_genotype
from cscdarts.training.guards.finite import LOOK_EVERY, Watch, largest, not_finite
from cscdarts.training.one_shot import discrete_mixing, error_pct
from cscdarts.training.retrain import RetrainRun
from cscdarts.training.search import SearchRun

CELL = "|nor_conv_1x1~0|+|none~0|skip_connect~1|+|nor_conv_1x1~0|none~1|none~2|"
NAN, INF = math.nan, math.inf


def scalars(**values: float) -> dict[str, Tensor]:
    return {name: torch.tensor(value) for name, value in values.items()}


def epoch(run: SearchRun | RetrainRun) -> None:
    run.train_epoch()
    run.close_epoch()


def test_the_first_number_that_broke_is_named_whatever_came_after() -> None:
    watch = Watch(torch.device("cpu"))
    assert watch.broken() is None
    watch.note(3, scalars(a=1.0, b=2.0))
    watch.note(4, scalars(a=INF, b=NAN))
    watch.note(5, scalars(a=NAN))
    assert watch.broken() == (4, "a")
    assert watch.broken() is None  # what was looked at is forgotten
    watch.note(6, scalars(a=0.0, b=-INF))
    assert watch.broken() == (6, "b")


def test_a_look_is_due_at_every_step_and_on_cuda_now_and_then() -> None:
    every, seldom = Watch(torch.device("cpu")), Watch(torch.device("cuda"))
    for step in range(LOOK_EVERY):
        assert not seldom.due()
        for watch in (every, seldom):
            watch.note(step, scalars(a=1.0))
            watch.note(step, scalars(b=1.0))  # a step is counted once
        assert every.due()
        assert seldom.due(last=True)
    assert seldom.due()
    seldom.broken()
    assert not seldom.due()


def test_the_largest_entry_is_finite_when_all_are() -> None:
    found = largest({"a": torch.tensor([3e38, -3e38]), "b": torch.tensor([[1.0, NAN]]), "c": torch.tensor([-INF])})
    assert {name: bool(torch.isfinite(value)) for name, value in found.items()} == {"a": True, "b": False, "c": False}
    assert largest({}) == {}


def test_running_statistics_are_called_so() -> None:
    whole = {"norm.num_batches_tracked": torch.tensor(2**62), "w": torch.ones(2)}
    assert not_finite(whole) is None
    assert not_finite({}) is None
    assert not_finite({**whole, "w": torch.tensor([1.0, INF])}) == "w"
    assert not_finite({**whole, "norm.running_var": torch.tensor([INF])}) == "running statistics norm.running_var"


# --- the search --------------------------------------------------------------------------------


def searching(path: Path, **values: Any) -> SearchRun:
    sizes = {
        "data.search_fraction": 0.03, "supernet.space": "nasbench201", "supernet.channels": 4, "supernet.cells": 1,
        "search.order": 1, "search.epochs": 2, "search.batch_size": 10, "search.alpha_warmup": 0,
        "runtime.device": "cpu", "runtime.threads": 1,
    }  # fmt: skip
    config = with_values(build({}), sizes | values)
    folder = RunFolder(path)
    folder.create(config)
    return SearchRun(config, folder, lambda: False, lambda line: None)


def spoil(run: SearchRun, call: int, loss: float | None = None, gradient: float | None = None) -> None:
    """Let one call of the gradients, counted from 0, give a loss or a first entry that is not finite."""
    inner, calls = run.gradients, [0]

    class Spoilt:
        last: tuple[Tensor, Tensor] | None = None

        def __call__(self, batch: Batch, parameters: Sequence[nn.Parameter]) -> list[Tensor]:
            found = inner(batch, parameters)
            assert inner.last is not None
            self.last = inner.last
            if calls[0] == call:
                if loss is not None:
                    self.last = (torch.tensor(loss), inner.last[1])
                if gradient is not None:
                    found[0].view(-1)[0] = gradient
            calls[0] += 1
            return found

    run.gradients = run.alpha_step.gradients = Spoilt()  # type: ignore[assignment]


#: order, call of the gradients (first order has 2 a step, second order 5), what it gives, what is named.
BROKEN: list[tuple[Any, int, dict[str, float], str, int]] = [
    (1, 0, {"loss": NAN}, "validation loss of the architecture step", 0),
    (1, 2, {"loss": INF}, "validation loss of the architecture step", 1),
    (1, 2, {"gradient": NAN}, r"gradient of alphas\.cell", 1),
    (1, 3, {"loss": INF}, "training loss", 1),
    (1, 3, {"gradient": INF}, "norm of the training gradient", 1),
    (2, 0, {"loss": NAN}, "training loss of the architecture step", 0),
    (2, 6, {"loss": INF}, "validation loss of the architecture step", 1),
    (2, 1, {"gradient": INF}, "norm of the validation gradient of the architecture step", 0),
    (2, 2, {"loss": NAN}, "training loss a step ahead of the architecture step", 0),
    (2, 3, {"loss": NAN}, "training loss a step behind of the architecture step", 0),
    (2, 3, {"gradient": NAN}, r"gradient of alphas\.cell", 0),
    (2, 4, {"loss": NAN}, "training loss", 0),
    ("second-exact", 1, {"loss": NAN}, "validation loss of the architecture step", 0),
]


@pytest.mark.parametrize(("order", "call", "what", "name", "step"), BROKEN)
def test_a_number_that_breaks_in_a_step_is_named_by_it(
    order: Any, call: int, what: dict[str, float], name: str, step: int, tmp_path: Path
) -> None:
    run = searching(tmp_path, **{"search.order": order})
    spoil(run, call, **what)
    with pytest.raises(NumericalError, match=rf"^search: {name} is not finite at epoch 0, step {step};"):
        run.train_epoch()
    assert run.folder.file("broken.pt").exists()


@pytest.mark.parametrize("order", [1, 2])
def test_a_learning_rate_without_measure_is_named_where_it_breaks(order: int, tmp_path: Path) -> None:
    run = searching(tmp_path, **{"search.order": order, "search.lr": 1e12, "search.grad_clip": 1e30})
    with pytest.raises(NumericalError, match=r"at epoch 0, step \d; .*Lower search\.lr or search\.alpha_lr"):
        epoch(run)
    assert not run.folder.curves()


def test_running_statistics_that_are_not_finite_stop_the_epoch_before_its_numbers(tmp_path: Path) -> None:
    """Batch statistics hide them while the supernet trains."""
    run = searching(tmp_path)
    run.train_epoch()
    name, statistic = next((n, b) for n, b in run.supernet.named_buffers() if n.endswith("running_var"))
    statistic.view(-1)[0] = INF
    with pytest.raises(NumericalError, match=rf"running statistics {name} are not finite at epoch 0"):
        run.close_epoch()
    assert not run.folder.curves()
    assert not run.folder.alphas()


def test_a_probe_that_is_not_finite_is_said_and_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run, said = searching(tmp_path, **{"search.hessian_every": 1}), list[str]()
    run.report = said.append
    monkeypatch.setattr(run.alpha_step, "hessian_eigenvalue", lambda batch: NAN)
    run.train_epoch()
    run.close_epoch()
    assert "alpha_hessian_eigenvalue" not in run.folder.curves()[-1]["values"]
    assert "search: alpha_hessian_eigenvalue is not finite in epoch 1 and is not recorded" in said


def test_an_answer_that_is_not_finite_is_wrong(tmp_path: Path) -> None:
    run = searching(tmp_path)
    run.supernet.classifier.weight.data.fill_(NAN)
    mixing = discrete_mixing(run.supernet, parse_genotype(CELL))
    assert error_pct(run.supernet, run.valid, mixing, None) == 100.0


# --- the retraining ----------------------------------------------------------------------------


def retraining(path: Path, **values: Any) -> RetrainRun:
    sizes = {
        "supernet.space": "nasbench201", "supernet.identity": "none", "evaluation.channels": 4, "evaluation.cells": 1,
        "evaluation.epochs": 2, "evaluation.batch_size": 700, "evaluation.cutout": 0, "runtime.device": "cpu",
        "runtime.threads": 1,
    }  # fmt: skip
    config: RunConfig = with_values(build({}), sizes | values)
    path.mkdir(exist_ok=True)
    return RetrainRun(config, RunFolder(path), parse_genotype(CELL), lambda: False, lambda line: None)


def test_a_retraining_that_breaks_is_named_by_its_first_number(tmp_path: Path) -> None:
    run = retraining(tmp_path, **{"evaluation.lr": 1e12, "evaluation.grad_clip": 1e30})
    with pytest.raises(NumericalError, match=r"^retrain: .* is not finite at epoch 0, step 1; .*Lower evaluation\.lr"):
        epoch(run)
    assert not run.folder.curves()


def test_a_gradient_that_overflows_is_named_at_its_own_step(tmp_path: Path) -> None:
    """The loss of that step is still finite; its step of the weights would not be."""
    run = retraining(tmp_path)
    run.network.classifier.weight.register_hook(lambda grad: grad * INF)  # type: ignore[no-untyped-call]
    with pytest.raises(NumericalError, match="norm of the training gradient is not finite at epoch 0, step 0"):
        run.train_epoch()


def _statistics(run: RetrainRun) -> None:
    next(b for n, b in run.network.named_buffers() if n.endswith("running_var")).view(-1)[0] = NAN


def _classifier(run: RetrainRun) -> None:
    run.network.classifier.register_forward_hook(lambda layer, _, out: out * INF)


@pytest.mark.parametrize(
    ("spoil", "words"),
    [(_statistics, r"running statistics \S+running_var are"), (_classifier, "logits of the test are")],
)
def test_a_test_of_answers_that_are_no_numbers_gives_no_result(
    spoil: Callable[[RetrainRun], None], words: str, tmp_path: Path
) -> None:
    run = retraining(tmp_path)
    spoil(run)
    with pytest.raises(NumericalError, match=words):
        run.finish()
    assert not run.folder.has("result")


def test_statistics_that_break_in_training_stop_before_the_epochs_numbers(tmp_path: Path) -> None:
    run = retraining(tmp_path)
    run.train_epoch()
    _statistics(run)
    with pytest.raises(NumericalError, match="running statistics"):
        run.close_epoch()
    assert not run.folder.curves()
