"""Files that are torn, changed, foreign or meant to do harm are one sentence, and nothing in them is executed."""

import io
import json
import os
import pickle
import random
import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import cscdarts
from cscdarts.errors import UserError
from cscdarts.export.formats import FORMATS
from tests.support.exports import drawn


@pytest.fixture(scope="module")
def files() -> dict[str, bytes]:
    """A file of each format whose packages are here."""
    found = {}
    for name, form in FORMATS.items():
        try:
            found[name] = form.load().write(drawn("nasbench201"))
        except UserError:
            assert form.packages
    return found


def refusal(tmp_path: Path, data: bytes) -> str:
    path = tmp_path / "file"
    path.write_bytes(data)
    with pytest.raises(UserError) as refused:
        cscdarts.load(path)
    assert "\n" not in str(refused.value)
    return str(refused.value)


@pytest.mark.parametrize("name", FORMATS)
def test_a_file_cut_off_anywhere_is_refused(files: dict[str, bytes], tmp_path: Path, name: str) -> None:
    if name not in files:
        pytest.skip("its packages are not installed")
    data = files[name]
    places = {0, 1, 4, 8, 9, 100, len(data) // 3, len(data) // 2, len(data) - 100, len(data) - 1}
    for place in sorted(places):
        assert "is not a network that cscdarts export wrote" in refusal(tmp_path, data[:place])


@pytest.mark.parametrize("name", FORMATS)
def test_a_changed_byte_is_refused_or_changes_nothing(files: dict[str, bytes], tmp_path: Path, name: str) -> None:
    """Padding may change; then the logits do not."""
    if name not in files:
        pytest.skip("its packages are not installed")
    data, draw = files[name], random.Random(0)
    images = torch.randn(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    (tmp_path / "whole").write_bytes(data)
    expected = cscdarts.load(tmp_path / "whole")(images)
    for _ in range(12):
        place = draw.randrange(len(data))
        (tmp_path / "file").write_bytes(
            data[:place] + bytes([data[place] ^ 1 << draw.randrange(8)]) + data[place + 1 :]
        )
        try:
            found = cscdarts.load(tmp_path / "file")
        except UserError:
            continue
        assert torch.equal(found(images), expected)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\0" * 100,
        b"# a card",
        b"{}",
        b"PK\x03\x04",
        b"\x10\0\0\0\0\0\0\0{}              ",
        b"\x80\x04N.",
        b"r\x01a" * 9,
    ],
)
def test_foreign_bytes_are_refused(tmp_path: Path, data: bytes) -> None:
    assert "is not a network that cscdarts export wrote" in refusal(tmp_path, data)


def test_other_files_of_the_formats_are_refused(tmp_path: Path) -> None:
    from safetensors.torch import save

    assert "no card" in refusal(tmp_path, save({"weight": torch.zeros(2)}, metadata={"format": "pt"}))
    program = torch.export.export(torch.nn.Linear(2, 3), (torch.zeros(1, 2),))
    buffer = io.BytesIO()
    torch.export.save(program, buffer)
    assert "no card" in refusal(tmp_path, buffer.getvalue())
    buffer = io.BytesIO()
    torch.save({"weight": torch.zeros(2)}, buffer)
    refusal(tmp_path, buffer.getvalue())


def test_a_path_that_is_no_file_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="There is no "):
        cscdarts.load(tmp_path / "nothing.pt2")
    with pytest.raises(UserError, match="This is a folder"):
        cscdarts.load(str(tmp_path))


class Boom:
    """What a pickle does to whoever reads it."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.mark),)


Records = dict[str, bytes]


def _program(records: Records, change: Callable[[Any], None]) -> None:
    found = json.loads(records["models/model.json"])
    change(found)
    records["models/model.json"] = json.dumps(found).encode()


def _first_node(found: Any) -> Any:
    return found["graph_module"]["graph"]["nodes"][0]


def _pickled_weight(records: Records, mark: Path) -> None:
    config = json.loads(records["data/weights/model_weights_config.json"])
    held = next(iter(config["config"].values()))
    held["use_pickle"] = True
    records["data/weights/model_weights_config.json"] = json.dumps(config).encode()
    records[f"data/weights/{held['path_name']}"] = pickle.dumps(Boom(mark))


def _pickled_object(records: Records, mark: Path) -> None:
    config = {
        "config": {"x": {"path_name": "opaque_obj_0", "is_param": False, "use_pickle": True, "tensor_meta": None}}
    }
    records["data/constants/model_constants_config.json"] = json.dumps(config).encode()
    records["data/constants/opaque_obj_0"] = pickle.dumps(Boom(mark))


def _pickled_weights_of_old(records: Records, mark: Path) -> None:
    records["data/weights/model.pt"] = pickle.dumps(Boom(mark))


def _pickled_example(records: Records, mark: Path) -> None:
    buffer = io.BytesIO()
    torch.save(Boom(mark), buffer)
    records["data/sample_inputs/model.pt"] = buffer.getvalue()


def _evaluated_size(records: Records, mark: Path) -> None:
    text = records["models/model.json"].decode()
    held = json.dumps(f"__import__('os').mkdir({str(mark)!r})")
    changed = re.sub(r'"expr_str": "(?:[^"\\]|\\.)*"', lambda found: f'"expr_str": {held}', text)
    assert changed != text
    records["models/model.json"] = changed.encode()


def _called_function(records: Records, mark: Path) -> None:
    _program(records, lambda found: _first_node(found).update(target="torch.hub.os.mkdir"))


def _passed_function(records: Records, mark: Path) -> None:
    _program(records, lambda found: _first_node(found)["inputs"][0].update(arg={"as_operator": "torch.hub.os.mkdir"}))


def _opened_file(records: Records, mark: Path) -> None:
    _program(records, lambda found: _first_node(found).update(target="torch.ops.aten.from_file.default"))


def _compiled_guard(records: Records, mark: Path) -> None:
    _program(records, lambda found: found.update(guards_code=[f"__import__('os').mkdir({str(mark)!r})"]))


def _compiled_name(records: Records, mark: Path) -> None:
    _program(records, lambda found: _first_node(found).update(name=f"x\nimport os; os.mkdir({str(mark)!r})\ny"))


def _library(records: Records, mark: Path) -> None:
    records["data/aotinductor/model/model.so"] = b"\x7fELF"


ATTACKS = (
    _pickled_weight, _pickled_object, _pickled_weights_of_old, _pickled_example, _evaluated_size, _called_function,
    _passed_function, _opened_file, _compiled_guard, _compiled_name, _library,
)  # fmt: skip


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.__name__)
def test_nothing_in_a_program_file_is_executed(
    files: dict[str, bytes], tmp_path: Path, attack: Callable[[Records, Path], None]
) -> None:
    with zipfile.ZipFile(io.BytesIO(files["torch-export"])) as archive:
        records = {name.partition("/")[2]: archive.read(name) for name in archive.namelist()}
        (top,) = {name.partition("/")[0] for name in archive.namelist()}
    mark = tmp_path / "boom"
    attack(records, mark)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in records.items():
            archive.writestr(f"{top}/{name}", content)
    sentence = refusal(tmp_path, buffer.getvalue())
    assert "is not a network that cscdarts export wrote" in sentence
    assert not mark.exists()


def test_an_archive_with_torchs_older_form_beside_is_refused(files: dict[str, bytes], tmp_path: Path) -> None:
    buffer = io.BytesIO(files["torch-export"])
    with zipfile.ZipFile(buffer, "a") as archive:
        archive.writestr("version", "8.20")
        archive.writestr("serialized_state_dict.pt", pickle.dumps(Boom(tmp_path / "boom")))
    refusal(tmp_path, buffer.getvalue())
    assert not (tmp_path / "boom").exists()


def _with_card(data: bytes, **values: Any) -> bytes:
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    card = json.loads(header["__metadata__"]["cscdarts"]) | values
    header["__metadata__"]["cscdarts"] = json.dumps(card)
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data[8 + length :]


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"channels": 4096}, "its weights are not those of the network that its card describes"),
        ({"classes": 10**9}, "its weights are not those of the network that its card describes"),
        ({"genotype": "|none~0|"}, "genotype"),
        ({"space": "elsewhere"}, "elsewhere"),
        ({"config": {"seed": "x"}}, "seed"),
        ({"version": 2}, "version"),
        ({"weights_sha256": "0" * 64}, "its weights are not those that its card was written for"),
    ],
)
def test_a_card_that_lies_is_refused(
    files: dict[str, bytes], tmp_path: Path, values: dict[str, Any], sentence: str
) -> None:
    assert sentence in refusal(tmp_path, _with_card(files["safetensors"], **values))
