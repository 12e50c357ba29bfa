"""What is exported: the trained network and nothing else, its card, and refusals where there is none."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from cscdarts.errors import UserError
from cscdarts.export.shape import Shape, asked_shape
from cscdarts.export.source import of_genotype, of_run
from cscdarts.models.network import Network
from cscdarts.records.checkpoint import read_state, save_checkpoint
from cscdarts.records.code import Code
from cscdarts.records.run_folder import RunFolder, read_json, write_json
from cscdarts.settings.config import RunConfig
from cscdarts.settings.keys import retraining_key, search_key
from cscdarts.settings.overrides import with_values
from cscdarts.spaces import parse_genotype
from cscdarts.training.retrain import RetrainRun
from tests.support.exports import COMMIT, NB201, batch, finished_run
from tests.support.training.retraining import CLASSES, GENOTYPE, config, random_tree, read_tree

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    return finished_run(tmp_path_factory.mktemp("finished"))


@pytest.fixture
def copy(finished: RunFolder, tmp_path: Path) -> RunFolder:
    shutil.copytree(finished.path, tmp_path / "run")
    return RunFolder(tmp_path / "run")


def silent(line: str) -> None:
    raise AssertionError(line)


def test_a_run_is_exported_as_its_checkpoint_has_it_without_the_auxiliary_head(finished: RunFolder) -> None:
    settings, state = finished.config(), read_state(finished.file("retrain.pt"), CPU)["network"]
    trained = Network(parse_genotype(GENOTYPE), settings.evaluation, settings.supernet, "cell", CLASSES, 3, False)
    trained.load_state_dict(state)
    exported = of_run(finished, silent)
    assert any(name.startswith("auxiliary") for name in state)
    assert {f"network.{name}" for name in state if not name.startswith("auxiliary")} == set(exported.state_dict())
    images = batch(5, 3, 8)
    with torch.no_grad():
        assert torch.equal(exported(images), trained.eval()(images)[0])


def test_the_card_says_what_the_run_recorded(finished: RunFolder) -> None:
    settings, result = finished.config(), read_json(finished.file("result.json")) or {}
    exported = of_run(finished, silent)
    card = exported.card
    assert card.trained
    assert card.result is not None
    assert card.run is not None
    assert card.data is not None
    assert card.result.test_error_pct == result["values"]["test_error_pct"]
    assert card.result.test_top5_error_pct == result["values"]["test_top5_error_pct"]
    assert (card.result.epochs, card.result.scale) == (1, "smoke")
    assert (card.data.sha256, card.data.label) == (result["data"]["sha256"], "image folder pictures")
    assert (card.data.train_images, card.data.test_images) == (29, 20)
    assert card.run.hash == settings.hash
    assert card.run.search == search_key(settings).id
    assert card.run.retraining == retraining_key(settings, GENOTYPE).id
    assert (card.run.commit, card.run.seed, card.seed) == (f"{COMMIT}+dirty", 3, 11)
    assert (card.genotype, card.space) == (GENOTYPE, "darts")
    assert card.params == sum(parameter.numel() for parameter in exported.parameters())
    assert card.params == round(result["values"]["params_m"] * 1e6)
    assert (card.classes, card.class_names) == (CLASSES, tuple(f"class{k:02d}" for k in range(CLASSES)))
    assert "inherit the terms of that data set" in card.licence[1]
    assert "CSC-DARTS paper" in card.paper


def test_the_card_is_enough_to_get_the_test_error_again(finished: RunFolder) -> None:
    """From the picture files, by the card alone: order of channels, mean, deviation, class names."""
    exported = of_run(finished, silent)
    form, names = exported.card.images, exported.card.class_names
    assert form.mean is not None
    assert form.std is not None
    assert names is not None
    expected = read_tree(finished.path.parent / "pictures", "test")
    assert form.mean == pytest.approx(expected.mean, abs=1e-7)
    assert form.order == "red, green, blue"
    wrong = 0
    files = sorted((finished.path.parent / "pictures" / "test").glob("*/*.png"))
    for file in files:
        pixels = np.asarray(Image.open(file).convert("RGB")) / 255
        image = torch.tensor((pixels - form.mean) / form.std, dtype=torch.float32).permute(2, 0, 1)
        wrong += names[int(exported(image[None]).argmax())] != file.parent.name
    assert exported.card.result is not None
    assert 100 * wrong / len(files) == pytest.approx(exported.card.result.test_error_pct)


def test_weights_are_those_of_the_run_after_a_crash_between_two_renames(copy: RunFolder) -> None:
    wanted = of_run(copy, silent)(batch(2, 3, 8))
    checkpoint = copy.file("retrain.pt")
    checkpoint.rename(checkpoint.with_name("retrain.fresh.pt"))
    assert torch.equal(of_run(copy, silent)(batch(2, 3, 8)), wanted)


def _without(name: str) -> Callable[[RunFolder], None]:
    return lambda folder: folder.file(name).unlink()


def _changed(name: str, **values: Any) -> Callable[[RunFolder], None]:
    def change(folder: RunFolder) -> None:
        write_json(folder.file(name), (read_json(folder.file(name)) or {}) | values)

    return change


def _state(**values: Any) -> Callable[[RunFolder], None]:
    def change(folder: RunFolder) -> None:
        state = read_state(folder.file("retrain.pt"), CPU)
        folder.file("retrain.pt").unlink()
        save_checkpoint(folder.file("retrain.pt"), state | values)

    return change


def _cut(folder: RunFolder) -> None:
    data = folder.file("retrain.pt").read_bytes()
    folder.file("retrain.pt").write_bytes(data[:-1000])


def _searched_only(folder: RunFolder) -> None:
    folder.file("result.json").unlink()
    folder.file("retrain.pt").unlink()


OTHER = GENOTYPE.replace("('sep_conv_5x5', 3)", "('sep_conv_3x3', 3)")
REFUSALS: dict[str, tuple[Callable[[RunFolder], None], str]] = {
    "no configuration": (_without("config.json"), "has no config.json"),
    "search not finished": (_without("genotype.json"), "has no genotype.json. Its search has not finished"),
    "searched only": (_searched_only, "has no result.json. It has searched only"),
    "retraining under way": (_without("result.json"), "has no result.json. Its retraining has not finished"),
    "no weights": (_without("retrain.pt"), "has no retrain.pt"),
    "another cell": (_changed("genotype.json", text=OTHER), "The weights belong to that cell"),
    "a result of another run": (_changed("result.json", key="0" * 16), "are of different runs"),
    "weights of another run": (_state(hash="0" * 16), "it belongs to retraining 0000000000000000"),
    "weights of an earlier epoch": (_state(epoch=0), "it stands at epoch 0 of 1"),
    "weights within an epoch": (_state(step=1), "it stands at epoch 1 of 1, step 1"),
    "a search's checkpoint": (_state(stage="search"), "it is that of a search"),
    "weights of another network": (_state(network={"stem.0.weight": torch.zeros(4, 3, 3, 3)}), "the run's own network"),
    "a torn checkpoint": (_cut, "it has no seal"),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_what_is_no_finished_run_is_refused_with_what_is_missing(copy: RunFolder, case: str) -> None:
    spoil, sentence = REFUSALS[case]
    spoil(copy)
    with pytest.raises(UserError) as refused:
        of_run(copy, lambda line: None)
    assert sentence in str(refused.value)


def test_a_run_that_ends_before_its_retraining_says_so(copy: RunFolder) -> None:
    data = json.loads(copy.file("config.json").read_text())
    data["runtime"]["retrain"] = False
    write_json(copy.file("config.json"), data)
    copy.file("result.json").unlink()
    with pytest.raises(UserError, match="without retraining"):
        of_run(copy, silent)


def test_a_run_of_no_epoch_has_the_weights_that_it_drew(tmp_path: Path) -> None:
    folder = finished_run(tmp_path, **{"evaluation.epochs": 0})
    assert not folder.file("retrain.pt").exists()
    drawn = RetrainRun(folder.config(), folder, parse_genotype(GENOTYPE), lambda: False, lambda line: None).network
    images = batch(3, 3, 8)
    exported = of_run(folder, silent)
    with torch.no_grad():
        assert torch.equal(exported(images), drawn.eval()(images)[0])
    assert exported.card.result is not None
    assert exported.card.result.epochs == 0


def test_records_of_older_runs_take_the_normalisation_from_the_data(copy: RunFolder, finished: RunFolder) -> None:
    told = of_run(finished, silent).card
    result = read_json(copy.file("result.json")) or {}
    for name in ("mean", "std", "class_names"):
        del result["data"][name]
    write_json(copy.file("result.json"), result)
    said: list[str] = []
    unknown = of_run(copy, said.append).card
    assert (unknown.images.mean, unknown.class_names) == (None, None)
    assert "--data-root" in said[0]
    assert of_run(copy, silent, finished.path.parent / "pictures").card == told
    other = random_tree(copy.path.parent / "other")
    Image.fromarray(np.zeros((8, 8, 3), dtype=np.uint8)).save(next((other / "test").glob("*/*.png")))
    with pytest.raises(UserError, match="the data that the run was trained on"):
        of_run(copy, silent, other)


def test_a_genotype_is_exported_as_a_retraining_would_begin_with_it(tmp_path: Path) -> None:
    settings = config(random_tree(tmp_path / "pictures"))
    run = RetrainRun(settings, RunFolder(tmp_path / "run"), parse_genotype(GENOTYPE), lambda: False, lambda line: None)
    exported = of_genotype(parse_genotype(GENOTYPE), settings, Shape(CLASSES, 3, 8), Code("abc", False))
    begun = run.network.state_dict()
    for name, value in exported.network.state_dict().items():
        assert torch.equal(value, begun[name]), name
    card = exported.card
    assert not card.trained
    assert (card.result, card.run, card.data) == (None, None, None)
    assert card.seed == 11
    assert "untrained" in card.headline()
    assert "commit abc" in card.remarks[0]


def test_drawing_weights_leaves_the_callers_random_numbers_alone() -> None:
    settings = with_values(RunConfig(), {"supernet.space": "nasbench201", "evaluation.cells": 1})
    torch.manual_seed(5)
    before = torch.get_rng_state()
    of_genotype(parse_genotype(NB201), settings, Shape(10, 3, 32), Code())
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(
    ("values", "given", "expected"),
    [
        ({"data.dataset": "digits"}, (None, None, None), (10, 1, 8)),
        ({"data.dataset": "cifar100"}, (None, None, None), (100, 3, 32)),
        ({"data.dataset": "fashion-mnist"}, (None, None, None), (10, 1, 28)),
        ({"data.dataset": "imagenet"}, (None, None, None), (1000, 3, 224)),
        ({"data.dataset": "imagenet", "data.image_size": 128}, (None, None, None), (1000, 3, 128)),
        ({"data.dataset": "image-folder"}, (7, 64, None), (7, 3, 64)),
        ({"data.dataset": "cifar10"}, (2, 96, 1), (2, 1, 96)),
    ],
)
def test_the_shape_is_that_of_the_data_unless_another_is_given(
    values: dict[str, Any], given: tuple[int | None, int | None, int | None], expected: tuple[int, int, int]
) -> None:
    shape = asked_shape(with_values(RunConfig(), values), None, *given)
    assert (shape.classes, shape.channels, shape.size) == expected


def test_a_shape_that_nothing_tells_is_asked_for() -> None:
    folder = with_values(RunConfig(), {"data.dataset": "image-folder"})
    for given, option in (
        ((None, 32, None), "--classes"),
        ((3, None, None), "--image-size"),
        ((3, 30, None), "multiple"),
    ):
        with pytest.raises(UserError, match=option):
            asked_shape(folder, None, *given)
