"""An export and its card appear together and whole, replace only exports, and are not written if they compute wrong."""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import cscdarts
from cscdarts.errors import OutsideFailure, UserError
from cscdarts.export import writing
from cscdarts.export.card import Card, markdown, read_card
from cscdarts.export.formats import FORMATS
from cscdarts.export.shape import Shape
from cscdarts.export.source import of_genotype
from cscdarts.export.writing import card_path, write_export
from cscdarts.records.code import Code
from cscdarts.records.run_folder import write_atomic
from cscdarts.spaces import OPERATIONS, Operation, register_operation
from tests.support.exports import NB201, drawn, settings_of

TENSORS, PROGRAM = FORMATS["safetensors"], FORMATS["torch-export"]


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def test_an_export_replaces_an_export_and_its_card(tmp_path: Path) -> None:
    path = tmp_path / "net"
    first = write_export(drawn("nasbench201"), TENSORS, path)
    second = write_export(drawn("nasbench201", **{"seed": 1}), PROGRAM, path)
    assert first.sha256 != second.sha256
    assert set(contents(tmp_path)) == {"net", "net.card.md"}
    assert second.sha256 in card_path(path).read_text()
    assert cscdarts.load(path).card.seed == 1


@pytest.mark.parametrize("name", ["net", "net.card.md"])
def test_what_is_no_export_is_replaced_only_if_asked(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("a thesis")
    before = contents(tmp_path)
    with pytest.raises(UserError, match="--force"):
        write_export(drawn("nasbench201"), TENSORS, tmp_path / "net")
    assert contents(tmp_path) == before
    write_export(drawn("nasbench201"), TENSORS, tmp_path / "net", force=True)
    assert cscdarts.load(tmp_path / "net").card == drawn("nasbench201").card


@pytest.mark.parametrize("name", ["net", "net.card.md"])
def test_a_folder_in_the_way_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / name).mkdir()
    with pytest.raises(UserError, match="A folder has this name"):
        write_export(drawn("nasbench201"), TENSORS, tmp_path / "net", force=True)


def test_a_place_that_cannot_be_written_is_a_sentence() -> None:
    with pytest.raises(UserError, match="cannot be written"):
        write_export(drawn("nasbench201"), TENSORS, Path("/proc/nowhere/net"))


@pytest.mark.parametrize("older", [False, True])
def test_a_write_that_fails_leaves_everything_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, older: bool
) -> None:
    path = tmp_path / "net"
    if older:
        write_export(drawn("nasbench201"), TENSORS, path)
    before = contents(tmp_path)

    def full(place: Path, content: str | bytes) -> None:
        if place == path:
            raise OSError(28, "No space left on device")
        write_atomic(place, content)

    monkeypatch.setattr(writing, "write_atomic", full)
    with pytest.raises(UserError, match="No space left on device"):
        write_export(drawn("nasbench201", **{"seed": 1}), TENSORS, path)
    assert contents(tmp_path) == before


def test_an_export_that_computes_something_else_is_not_written(tmp_path: Path) -> None:
    """Here a network that changes after its weights were taken; a fault of an exporter would look the same."""

    class Wrong:
        def write(self, classifier: Any) -> bytes:
            data: bytes = TENSORS.load().write(classifier)
            with torch.no_grad():
                classifier.network.classifier.bias.add_(1e-3)
            return data

    class Form:
        name = "wrong"

        def load(self) -> Wrong:
            return Wrong()

    with pytest.raises(OutsideFailure, match="its logits differ from the network's by"):
        write_export(drawn("nasbench201"), Form(), tmp_path / "net")  # type: ignore[arg-type]
    assert contents(tmp_path) == {}


class Draw(nn.Module):
    """Draws in evaluation too."""

    def forward(self, x: Tensor) -> Tensor:
        return x + torch.rand_like(x)


class Branch(nn.Module):
    """Does something else for many images, which no program for any number of images can."""

    def forward(self, x: Tensor) -> Tensor:
        return x if len(x) > 3 else -x


@pytest.fixture(params=[Draw, Branch])
def own(request: pytest.FixtureRequest) -> Iterator[type[nn.Module]]:
    """A module that is registered as an operation for one test."""
    module: type[nn.Module] = request.param
    register_operation(Operation("mine", "mine", module=lambda channels, stride, affine: module(), has_weights=False))
    yield module
    OPERATIONS.unregister("mine")


def test_operations_of_ones_own_are_exported_as_far_as_they_can_be(own: type[nn.Module], tmp_path: Path) -> None:
    genotype = cscdarts.parse_genotype(NB201.replace("skip_connect", "mine"))
    classifier = of_genotype(genotype, settings_of("nasbench201"), Shape(5, 3, 32), Code())
    written = write_export(classifier, TENSORS, tmp_path / "net")
    assert math.isnan(written.difference) == (own is Draw)  # what draws cannot be compared
    if own is Branch:
        with pytest.raises(OutsideFailure, match="Tracing the network failed"):
            write_export(classifier, PROGRAM, tmp_path / "net.pt2")
        assert not (tmp_path / "net.pt2").exists()
    else:
        write_export(classifier, PROGRAM, tmp_path / "net.pt2")
        assert cscdarts.load(tmp_path / "net.pt2")(torch.zeros(2, 3, 32, 32)).shape == (2, 5)


def test_a_card_is_read_as_it_was_written() -> None:
    card = drawn("nasbench201").card
    assert read_card(card.text()) == card
    with pytest.raises(ValueError, match="genotype"):
        read_card(card.text().replace('"genotype"', '"cell"'))
    with pytest.raises(ValueError):
        read_card("no JSON")


def test_the_card_in_words_is_one_table_whatever_it_holds() -> None:
    """Architecture strings hold the bars that part a table's cells."""
    card: Card = drawn("nasbench201").card
    lines = markdown(card, "net.pt2", "0" * 64).splitlines()
    rows = [line for line in lines if line.startswith("|")]
    assert len(rows) > 10
    assert all(row.replace("\\|", "").count("|") == 3 for row in rows)
    text = "\n".join(lines)
    for told in (card.weights_sha256, f"{card.params:,}", "untrained", "MIT licence", "cscdarts.load('net.pt2')"):
        assert told in text
