"""Retraining against a plainly written one, each term of the recipe shown to matter; the test set against counts by
hand."""

import copy
import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from cscdarts.errors import MissingFile
from cscdarts.models.network import Network
from cscdarts.records.run_folder import RunFolder, write_json
from cscdarts.settings.config import EvaluationConfig, RunConfig, SupernetConfig
from cscdarts.spaces import parse_genotype
from cscdarts.training.retrain import RetrainRun, retrain
from tests.support.records import written
from tests.support.training.plain_training import SGD, Pictures, Retraining, retrain_epoch
from tests.support.training.retraining import CLASSES, GENOTYPE, config, distance, read_tree, retraining, write_tree


def terms(config: RunConfig) -> Retraining:
    known = {field.name for field in dataclasses.fields(Retraining)}
    values = {key: value for key, value in config.evaluation.model_dump().items() if key in known}
    return Retraining(**values, crop_padding=2, flip=True)


def plain(start: nn.Module, pictures: Pictures, recipe: Retraining, epochs: range) -> tuple[nn.Module, float, float]:
    network = copy.deepcopy(start)
    optimizer = SGD(recipe.momentum, recipe.nesterov, recipe.weight_decay)
    loss = error = float("nan")
    for epoch in epochs:
        loss, error = retrain_epoch(network, pictures, recipe, optimizer, epoch)
    return network, loss, error


#: Epochs in the middle of the run: learning rate and drop-path are neither at their start nor at their end.
MIDDLE = range(2, 4)


@pytest.fixture(scope="module")
def trained(tree: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[nn.Module, nn.Module]:
    """A network before and after the epochs of MIDDLE."""
    run = retraining(config(tree), tmp_path_factory.mktemp("run"))
    start = copy.deepcopy(run.network)
    run.epoch = MIDDLE.start
    for _ in MIDDLE:
        run.train_epoch()
        run.close_epoch()
    return start, run.network


def test_two_epochs_equal_the_plainly_written_ones(tree: Path, trained: tuple[nn.Module, nn.Module]) -> None:
    start, end = trained
    expected, _, _ = plain(start, read_tree(tree, "train"), terms(config(tree)), MIDDLE)
    assert distance(end, expected) < 1e-9
    assert distance(end, start) > 1e-2


#: Every term of the recipe, and a value that it does not have.
WRONG: dict[str, dict[str, Any]] = {
    "label smoothing dropped": {"label_smoothing": 0.0},
    "auxiliary loss doubled": {"auxiliary": 0.8},
    "no auxiliary loss": {"auxiliary": 0.0},
    "gradients not clipped": {"grad_clip": 1e9},
    "no weight decay": {"weight_decay": 0.0},
    "less momentum": {"momentum": 0.7},
    "no Nesterov": {"nesterov": False},
    "learning rate of another length": {"epochs": 6, "drop_path": 0.6},
    "no least learning rate": {"lr_min": 0.0},
    "linear schedule": {"schedule": "linear"},
    "exponential schedule": {"schedule": "exponential"},
    "another warm-up": {"warmup_epochs": 4},
    "drop-path of full strength": {"drop_path": 0.5 * 5 / 3},
    "no drop-path": {"drop_path": 0.0},
    "no cutout": {"cutout": 0},
    "a smaller cutout": {"cutout": 2},
    "no crop": {"crop_padding": 0},
    "no flip": {"flip": False},
    "not accumulated": {"accumulate": 1},
    "the run's seed in place of the retraining's": {"seed": 3},
    "another batch size": {"batch_size": 14},
}


@pytest.mark.parametrize("term", WRONG)
def test_each_term_matters(term: str, tree: Path, trained: tuple[nn.Module, nn.Module]) -> None:
    start, end = trained
    wrong = dataclasses.replace(terms(config(tree)), **WRONG[term])
    assert distance(end, plain(start, read_tree(tree, "train"), wrong, MIDDLE)[0]) > 1e-5


def test_it_trains_on_the_training_pictures(tree: Path, trained: tuple[nn.Module, nn.Module]) -> None:
    start, end = trained
    assert distance(end, plain(start, read_tree(tree, "test"), terms(config(tree)), MIDDLE)[0]) > 1e-3


@pytest.mark.parametrize(
    "values",
    [
        {"schedule": "linear", "warmup_epochs": 2},
        {"schedule": "exponential", "lr_gamma": 0.9},
        {"nesterov": False},
        {"momentum": 0.0, "nesterov": False},
        {"grad_clip": 1e9, "accumulate": 1},
    ],
)
def test_other_recipes_equal_theirs(values: dict[str, Any], tree: Path, tmp_path: Path) -> None:
    """Schedules from the first epoch on, through the warm-up; and what the test above has switched on, off."""
    settings = config(tree, **{f"evaluation.{key}": value for key, value in values.items()})
    run = retraining(settings, tmp_path)
    start = copy.deepcopy(run.network)
    for _ in range(3):
        run.train_epoch()
        run.close_epoch()
    expected, loss, error = plain(start, read_tree(tree, "train"), terms(settings), range(3))
    assert distance(run.network, expected) < 1e-9
    line = run.folder.curves()[-1]
    assert (line["stage"], line["epoch"], line["step"]) == ("retrain", 2, 2)
    assert line["values"]["retrain_train_loss"] == pytest.approx(loss, rel=1e-6)
    assert line["values"]["retrain_train_error_pct"] == pytest.approx(error)


@pytest.mark.parametrize(("cells", "after"), [(3, 2), (4, 2), (8, 5), (20, 13)])
def test_the_auxiliary_head_sits_after_two_thirds_of_the_cells(cells: int, after: int) -> None:
    """quark0/darts `cnn/model.py`: after cell 2 L // 3, counted from 0; only in training, and only where it has a
    weight."""
    network = Network(
        parse_genotype(GENOTYPE), EvaluationConfig(channels=2, cells=cells), SupernetConfig(identity="none"), "none", 5
    )  # fmt: skip
    seen: list[str] = []
    for k, cell in enumerate(network.cells):
        cell.register_forward_hook(lambda *_, k=k: seen.append(str(k)))
    assert network.auxiliary is not None
    network.auxiliary.register_forward_hook(lambda *_: seen.append("head"))
    network(torch.randn(2, 3, 16, 16))
    assert seen.index("head") == after + 1
    seen.clear()
    assert network.eval()(torch.randn(2, 3, 16, 16))[1] is None
    assert "head" not in seen


# --- the one look at the test set ----------------------------------------------------------------


class ReadsTheGray(nn.Module):
    """Stands for a network: the k-th gray value is taken for class k, and the classes next to it come next."""

    def __init__(self, mean: Tensor, std: Tensor) -> None:
        super().__init__()
        self.mean, self.std = mean, std
        self.batches: list[int] = []

    def forward(self, images: Tensor) -> tuple[Tensor, None]:
        assert not self.training, "a network is tested with the running statistics of its normalisations"
        self.batches.append(len(images))
        seen = ((images * self.std + self.mean) * 255 / 12).mean((1, 2, 3))
        return -(torch.arange(CLASSES)[None, :] - (seen[:, None] - 0.1)).abs(), None


def gray(k: int) -> np.ndarray:
    return np.full((8, 8, 3), 12 * k, dtype=np.uint8)


def test_the_test_error_is_that_of_the_test_part_counted_by_hand(tmp_path: Path) -> None:
    """Of 20 test pictures 9 show their own class, 6 a class whose four neighbours hold it, 5 one far from it.

    Every training picture shows another class than its own, so a look at those would find 100 % errors.
    """
    write_tree(tmp_path, "train", [(k, gray((k + 10) % CLASSES)) for k in range(CLASSES)])
    shown = [k if k < 9 else k + 2 if k < 15 else k - 10 for k in range(CLASSES)]
    write_tree(tmp_path, "test", [(k, gray(shown[k])) for k in range(CLASSES)])
    settings = config(tmp_path, **{"evaluation.epochs": 0, "evaluation.batch_size": 6, "evaluation.accumulate": 1})
    folder = RunFolder(tmp_path / "run")
    said: list[str] = []
    run = RetrainRun(settings, folder, parse_genotype(GENOTYPE), lambda: False, said.append)
    source = run.data.train
    run.network = ReadsTheGray(source.mean, source.std)  # type: ignore[assignment]
    write_json(folder.file("search.json"), {"values": {"search_time_s": 2.5, "peak_memory_mib": 7.0}})
    run.finish()
    result = written(folder.file("result.json"))
    assert result["values"]["test_error_pct"] == pytest.approx(100 * 11 / 20)
    assert result["values"]["test_top5_error_pct"] == pytest.approx(100 * 5 / 20)
    assert result["data"]["test_images"] == 20
    assert run.network.batches == [12, 8]  # twice the training batch, and the incomplete last one counts
    # What the search cost stands with the search: other runs may share the retraining.
    assert (result["values"]["retrain_time_s"], "search_time_s" in result["values"]) == (0.0, False)
    assert said[-1] == "test error 55.00%"


def test_the_result_names_what_it_is_of(tmp_path: Path, tree: Path) -> None:
    settings = config(tree, **{"evaluation.epochs": 0, "labels.data": "My pictures"})
    folder = RunFolder(tmp_path)
    write_json(folder.file("genotype.json"), {"text": GENOTYPE})
    retrain(settings, folder)
    result = written(folder.file("result.json"))
    assert (result["hash"], result["seed"]) == (settings.hash, 3)
    assert result["genotype"] == str(parse_genotype(GENOTYPE))
    assert result["channels"] == 4
    assert result["data"]["dataset"] == "image-folder"
    assert result["data"]["label"] == "My pictures"
    assert len(result["data"]["sha256"]) == 64
    assert {"params_m", "macs_m"} <= set(result["values"])
    # The network as it stands, without the auxiliary head, which is only trained with.
    run = RetrainRun(settings, folder, parse_genotype(GENOTYPE), lambda: False, lambda line: None)
    own = sum(p.numel() for name, p in run.network.named_parameters() if not name.startswith("auxiliary"))
    assert result["values"]["params_m"] == own / 1e6


def test_ten_classes_have_no_top_5_error(tmp_path: Path) -> None:
    draw = np.random.default_rng(1)
    for part in ("train", "test"):
        write_tree(
            tmp_path, part, [(k % 10, draw.integers(0, 256, (8, 8, 3), dtype=np.uint8)) for k in range(20)]
        )  # fmt: skip
    folder = RunFolder(tmp_path / "run")
    write_json(folder.file("genotype.json"), {"text": GENOTYPE})
    retrain(config(tmp_path, **{"evaluation.epochs": 0}), folder)
    assert "test_top5_error_pct" not in written(folder.file("result.json"))["values"]


def test_without_a_derived_cell_nothing_is_retrained(tmp_path: Path, tree: Path) -> None:
    with pytest.raises(MissingFile) as caught:
        retrain(config(tree), RunFolder(tmp_path))
    assert str(caught.value) == f"{tmp_path} has no genotype.json. Run the search first."
    assert not list(tmp_path.iterdir())
