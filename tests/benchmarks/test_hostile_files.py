"""Malicious, truncated, damaged and foreign files: one sentence, nothing executed."""

import bz2
import gzip
import os
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.official.nasbench201 import NasBench201
from benchmarks.official.nats import NatsBench
from benchmarks.official.safe_pickle import read_plain_pickle
from benchmarks.sources import open_table
from benchmarks.tabular.csv_table import read_csv
from benchmarks.tabular.index import read_index
from benchmarks.tabular.space import official_archs
from cscdarts.errors import UserError
from tests.support.official_files import OfficialFiles


class Payload:
    """Runs a command when unpickled the usual way."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.mark}",)


def packed(path: Path, content: Any) -> Path:
    path.write_bytes(bz2.compress(pickle.dumps(content, protocol=4)))
    return path


def one_sentence(error: pytest.ExceptionInfo[UserError]) -> str:
    text = str(error.value)
    assert "\n" not in text
    return text


@pytest.fixture
def mark(tmp_path: Path) -> Path:
    return tmp_path / "executed"


def test_the_payload_of_these_tests_is_real(tmp_path: Path, mark: Path) -> None:
    pickle.loads(bz2.decompress(packed(tmp_path / "bad", Payload(mark)).read_bytes()))
    assert mark.exists()


def test_malicious_single_file_is_refused_and_not_run(tmp_path: Path, mark: Path) -> None:
    path = packed(tmp_path / "bad.pickle.pbz2", {"meta_archs": list(official_archs()), "arch2infos": Payload(mark)})
    with pytest.raises(UserError) as error:
        NatsBench(path)
    assert "system" in one_sentence(error)
    assert "Nothing in it was run" in str(error.value)
    assert not mark.exists()


def test_malicious_meta_and_record_of_a_folder_are_refused_and_not_run(tmp_path: Path, mark: Path) -> None:
    packed(tmp_path / "meta.pickle.pbz2", Payload(mark))
    with pytest.raises(UserError):
        NatsBench(tmp_path)
    packed(tmp_path / "meta.pickle.pbz2", {"meta_archs": list(official_archs())})
    packed(tmp_path / "000011.pickle.pbz2", {"200": Payload(mark)})
    benchmark = NatsBench(tmp_path)
    assert benchmark.held == (11,)
    with pytest.raises(UserError) as error:
        benchmark.info(11, "cifar10")
    one_sentence(error)
    with pytest.raises(UserError):
        open_table(f"nats:{tmp_path}")
    assert not mark.exists()


def test_malicious_pth_is_refused_and_not_run(tmp_path: Path, mark: Path) -> None:
    torch.save({"meta_archs": Payload(mark)}, tmp_path / "bad.pth")
    with pytest.raises(UserError) as error:
        NasBench201(tmp_path / "bad.pth")
    assert "Nothing in it was run" in one_sentence(error)
    torch.save({"meta_archs": Payload(mark)}, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    with pytest.raises(UserError):
        NasBench201(tmp_path / "old.pth")
    assert not mark.exists()


@pytest.mark.parametrize(
    "name", ["builtins eval", "numpy.core.multiarray _reconstruct", "torch load", "collections Counter"]
)
def test_every_global_beyond_the_allow_list_is_refused(tmp_path: Path, name: str) -> None:
    module, attribute = name.split()
    raw = f"c{module}\n{attribute}\n.".encode()
    (tmp_path / "x.pbz2").write_bytes(bz2.compress(raw))
    with pytest.raises(UserError, match=attribute):
        read_plain_pickle(tmp_path / "x.pbz2")


def test_numpy_scalars_of_objects_are_refused(tmp_path: Path) -> None:
    raw = b"cnumpy.core.multiarray\nscalar\n(cnumpy\ndtype\n(S'O8'\nI0\nI1\ntRS'abc'\ntR."
    (tmp_path / "x.pbz2").write_bytes(bz2.compress(raw))
    with pytest.raises(UserError, match="dtype"):
        read_plain_pickle(tmp_path / "x.pbz2")


def test_numpy_scalars_of_numbers_are_read(tmp_path: Path) -> None:
    import numpy as np

    value = read_plain_pickle(packed(tmp_path / "x.pbz2", {"a": np.float64(0.1), "b": np.int32(7)}))
    assert value == {"a": 0.1, "b": 7}
    assert type(value["a"]) is np.float64


def test_a_decompression_bomb_is_refused(tmp_path: Path) -> None:
    packed(tmp_path / "x.pbz2", b"\0" * 2_000_000)
    with pytest.raises(UserError, match="more data"):
        read_plain_pickle(tmp_path / "x.pbz2", limit=1_000_000)


@pytest.mark.parametrize("keep", [0, 10, 2000, -1])
def test_truncated_files_are_refused(files: OfficialFiles, tmp_path: Path, keep: int) -> None:
    whole = (files.folder / "meta.pickle.pbz2").read_bytes()
    (tmp_path / "meta.pickle.pbz2").write_bytes(whole[:keep])
    with pytest.raises(UserError) as error:
        NatsBench(tmp_path)
    one_sentence(error)
    table = gzip.compress(files.table.read_bytes(), compresslevel=1)
    (tmp_path / "t.csv.gz").write_bytes(table[:keep])
    with pytest.raises(UserError):
        read_csv(tmp_path / "t.csv.gz")


@pytest.mark.parametrize("keep", [0, 100, -1])
def test_truncated_pth_and_index_are_refused(tmp_path: Path, keep: int) -> None:
    torch.save({"meta_archs": ["a" * 1000]}, tmp_path / "x.pth")
    whole = (tmp_path / "x.pth").read_bytes()
    (tmp_path / "x.pth").write_bytes(whole[:keep])
    with pytest.raises(UserError):
        NasBench201(tmp_path / "x.pth")
    (tmp_path / "x.parquet").write_bytes(b"PAR1" + bytes(range(200)) * 3 + b"PAR1"[:keep])
    with pytest.raises(UserError) as error:
        read_index(tmp_path / "x.parquet")
    one_sentence(error)


@pytest.mark.parametrize(
    "content",
    [
        [],
        {},
        {"meta_archs": 3},
        {"meta_archs": [1, 2]},
        {"meta_archs": ["|a~0|"], "arch2infos": {}},
        {"meta_archs": list(reversed(official_archs())), "arch2infos": {}},
        {"meta_archs": list(official_archs())},
        {"meta_archs": list(official_archs()), "arch2infos": []},
    ],
)
def test_other_content_is_refused(tmp_path: Path, content: Any) -> None:
    with pytest.raises(UserError) as error:
        NatsBench(packed(tmp_path / "x.pickle.pbz2", content))
    one_sentence(error)


@pytest.mark.parametrize("record", [[], {}, {"200": 3}, {"200": {"arch_index": 11}}, {200: {}}])
def test_records_of_another_shape_are_refused(tmp_path: Path, record: Any) -> None:
    packed(tmp_path / "meta.pickle.pbz2", {"meta_archs": list(official_archs())})
    packed(tmp_path / "000011.pickle.pbz2", record)
    with pytest.raises(UserError):
        NatsBench(tmp_path).info(11, "cifar10")


def test_the_size_space_is_no_table_for_cells(files: OfficialFiles) -> None:
    with pytest.raises(UserError, match="topology"):
        open_table(f"nats:{files.size_space}")


def test_a_record_under_another_index_is_refused(files: OfficialFiles, tmp_path: Path) -> None:
    (tmp_path / "meta.pickle.pbz2").write_bytes((files.folder / "meta.pickle.pbz2").read_bytes())
    (tmp_path / "000012.pickle.pbz2").write_bytes((files.folder / "000011.pickle.pbz2").read_bytes())
    with pytest.raises(UserError, match="index 12"):
        NatsBench(tmp_path).info(12, "cifar10")


@pytest.mark.parametrize(
    "name", ["", "nats", "nats:", "index:", "cifar10", "http://x", "nasbench201:/nothing", "csv:/nothing"]
)
def test_unknown_benchmarks_are_refused(name: str) -> None:
    with pytest.raises(UserError) as error:
        open_table(name)
    one_sentence(error)
