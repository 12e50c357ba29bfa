"""Files that are small and would make much: what is made of them, how deep and how long, is bounded and measured."""

import bz2
import gzip
import os
import pickle
import random
import struct
import time
import tracemalloc
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from benchmarks.official import nasbench201, pickle_bounds, safe_pickle
from benchmarks.official.nasbench201 import load_plain_pth
from benchmarks.official.pickle_bounds import PickleBounds, TooMuch
from benchmarks.official.safe_pickle import read_plain_pickle
from benchmarks.tabular import csv_table, parquet_bounds
from benchmarks.tabular.csv_table import read_csv
from benchmarks.tabular.index import read_columns, read_index, write_columns
from cscdarts.errors import UserError
from tests.support.official_files import OfficialFiles, record

MIB = 2**20


def measured(read: Callable[[], object], most_mib: float, most_s: float = 30.0) -> str:
    """The one sentence by which a file is refused, within memory and time."""
    began = time.monotonic()
    tracemalloc.start()
    try:
        with pytest.raises(UserError) as error:
            read()
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < most_mib * MIB, f"{peak / MIB:.1f} MiB were made"
    assert time.monotonic() - began < most_s
    assert "\n" not in str(error.value)
    return str(error.value)


def _int(number: int, size: int = 4) -> bytes:
    return number.to_bytes(size, "little")


def _doubling(wrap: bytes, times: int) -> bytes:
    """A value of two references to the value before it, again and again: 2 ** times values when gone through."""
    return b"\x80\x04K\x01" + (b"q\x00h\x00" + wrap) * times


#: A tuple of two of the one before.
_TUPLES = _doubling(b"\x86", 60)
#: name -> pickle of a few bytes.
BOMBS = {
    "empty lists": b"\x80\x04(" + b"]" * 300_000 + b"l.",
    "empty dictionaries": b"\x80\x04(" + b"}" * 300_000 + b"l.",
    "marks": b"\x80\x04" + b"(" * 300_000 + b".",
    "numbers": b"\x80\x04(" + b"K\x07" * 300_000 + b"l.",
    "references": b"\x80\x04]q\x00(" + b"h\x00" * 300_000 + b"l.",
    "a promise of bytes": b"\x80\x04\x8e" + _int(2**40, 8) + b"abc",
    "a promise of text": b"\x80\x04\x8d" + _int(2**33, 8) + b"abc",
    "a promise of a frame": b"\x80\x04\x95" + _int(2**40, 8) + b"K\x01.",
    "a promise of a buffer": b"\x80\x05\x96" + _int(2**40, 8) + b"abc",
    "a far reference": b"\x80\x04]r" + _int(2**31 - 1) + b".",
    "a far reference as text": b"]p2000000000\n.",
    "a number without an end": b"\x80\x04\x8b" + _int(2_000_000) + b"\x01" * 2_000_000 + b".",
    "digits without an end": b"I" + b"9" * 2_000_000 + b"\n.",
    "a line without an end": b"S'" + b"a" * 2_000_000,
    "a key of tuples": b"\x80\x04}" + _TUPLES[2:] + b"K\x01s.",
    "a value of tuples": b"\x80\x04}K\x01" + _TUPLES[2:] + b"s.",
    "a set of tuples": b"\x80\x04(" + _TUPLES[2:] + b"\x91.",
    "tuples of thousands": b"\x80\x04(" + b"K\x01" * 2000 + b"tq\x00(" + b"h\x00" * 2000 + b"t.",
    "lists of lists": b"\x80\x04]q\x00" + b"".join(b"](h%ch%ceq%c" % (k, k, k + 1) for k in range(60)) + b".",
    "lists within lists": b"\x80\x04" + b"](" * 5000 + b"K\x01" + b"e" * 5000 + b".",
    "tuples within tuples": b"\x80\x04K\x01" + b"\x85" * 5000 + b".",
    "a list that grows inside another": b"\x80\x04]q\x00]q\x01a" + b"h\x01]q\x01a0" * 100 + b".",
    "a list in itself": b"\x80\x04]q\x00h\x00a.",
    "copies of a dictionary": (
        b"\x80\x04ccollections\nOrderedDict\nq\x00}(" + b"".join(b"J" + _int(k) + b"N" for k in range(5000))
        + b"u\x85q\x01(" + b"h\x00h\x01R" * 5000 + b"l."
    ),
    "nothing to take": b"\x80\x04aaaa.",
    "a reference to nothing": b"\x80\x04h\x09.",
    "an extension": b"\x80\x04\x82\x01.",
    "a persistent object": b"\x80\x04K\x01Q.",
}  # fmt: skip


@pytest.mark.parametrize("name", BOMBS)
def test_pickles_that_would_make_much_are_refused(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(safe_pickle, "MADE_FLOOR", MIB)
    path = tmp_path / "x.pickle.pbz2"
    path.write_bytes(bz2.compress(BOMBS[name]))
    said = measured(lambda: read_plain_pickle(path), 24)
    assert "Nothing in it was run" in said


@pytest.mark.parametrize("name", BOMBS)
@pytest.mark.parametrize("form", ["zip", "older"])
def test_the_same_in_a_pth(tmp_path: Path, name: str, form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nasbench201, "MADE_FLOOR", MIB)
    monkeypatch.setattr(nasbench201, "MADE_PER_PLAIN_BYTE", 1)
    path = tmp_path / "x.pth"
    if form == "zip":
        with zipfile.ZipFile(path, "w") as parts:
            parts.writestr("archive/data.pkl", BOMBS[name])
            parts.writestr("archive/version", "3\n")
    else:
        torch.save({"a": 1}, path, _use_new_zipfile_serialization=False)
        whole = path.read_bytes()
        head = [pickle.dumps(0x1950A86A20F9469CFC6C, 2), pickle.dumps(1001, 2)]
        assert whole.startswith(b"".join(head))
        path.write_bytes(b"".join(head) + pickle.dumps({"little_endian": True}, 2) + BOMBS[name])
    measured(lambda: load_plain_pth(path), 24)


def test_a_bzip2_bomb_is_unpacked_no_further_than_its_bound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """2.3 kB that unpack to gigabytes: what is unpacked is counted, and ends near the bound."""
    monkeypatch.setattr(safe_pickle, "MADE_FLOOR", MIB)
    monkeypatch.setattr(safe_pickle, "MADE_PER_BYTE", 10)
    piece = bz2.compress(b"N0" * 2_000_000)
    path = tmp_path / "x.pickle.pbz2"
    path.write_bytes(bz2.compress(b"\x80\x04(") + piece * 500)  # streams one after the other: 2 GB of a few kB
    assert path.stat().st_size < 100_000
    given: list[int] = []
    feed = PickleBounds.feed

    def counted(self: PickleBounds, data: bytes) -> int:
        given.append(len(data))
        return feed(self, data)

    monkeypatch.setattr(PickleBounds, "feed", counted)
    measured(lambda: read_plain_pickle(path, safe_pickle.ARCHIVE_LIMIT), 24)
    assert sum(given) < safe_pickle.made_limit(path.stat().st_size)


def test_many_keys_that_collide_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pickle_bounds, "TUPLE_KEYS", 100)
    monkeypatch.setattr(pickle_bounds, "BYTES_PER_TUPLE_KEY", 10**9)
    path = tmp_path / "x.pickle.pbz2"
    path.write_bytes(bz2.compress(pickle.dumps({("cifar10", k): 0 for k in range(100)})))
    assert len(read_plain_pickle(path)) == 100
    path.write_bytes(bz2.compress(pickle.dumps({("cifar10", k): 0 for k in range(101)})))
    assert "keys of several values" in measured(lambda: read_plain_pickle(path), 24)


def _plain(draw: random.Random, depth: int = 0) -> Any:
    """Random plain data with all that the records have: shared values, numbers of NumPy, ordered dictionaries."""
    kind = draw.randrange(13 if depth < 4 else 8)
    plain = [
        None, True, draw.randrange(-(2**62), 2**62), draw.random(), "ü中x" * draw.randrange(9),
        b"ab" * draw.randrange(200), np.float64(draw.random()), np.int32(draw.randrange(99)),
    ]  # fmt: skip
    if kind < 8:
        return plain[kind]
    inside = [_plain(draw, depth + 1) for _ in range(draw.randrange(5))]
    if kind == 8:
        return [*inside, *inside]
    if kind == 9:
        return tuple(inside)
    if kind == 10:
        return {("set", k): value for k, value in enumerate(inside)}
    return OrderedDict((str(k), value) for k, value in enumerate(inside)) if kind == 11 else dict(enumerate(inside))


@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4])
def test_plain_data_passes_whole_and_in_pieces(tmp_path: Path, protocol: int) -> None:
    for seed in range(60):
        value = [_plain(random.Random(seed)) for _ in range(3)]
        if protocol < 3 and b"_codecs" in pickle.dumps(value, protocol):
            continue  # bytes are a call there, which the archives do not have
        data = pickle.dumps(value, protocol)
        whole = PickleBounds(10**9, len(data))
        assert whole.feed(data + b"beyond") == len(data)
        pieces = PickleBounds(10**9, len(data))
        for byte in struct.unpack(f"{len(data)}c", data):
            assert not pieces.ended
            assert pieces.feed(byte) == 1
        assert whole.ended
        assert pieces.ended
        assert whole.left == pieces.left
        path = tmp_path / "x.pbz2"
        path.write_bytes(bz2.compress(data))
        assert repr(read_plain_pickle(path)) == repr(value)


def test_sets_pass_as_the_official_meta_records_have_them(tmp_path: Path) -> None:
    value = {"evaluated": {1, 2, 3}, "names": frozenset(["a", "b"]), "none": set()}
    path = tmp_path / "meta.pbz2"
    for protocol in (4, 5):
        path.write_bytes(bz2.compress(pickle.dumps(value, protocol)))
        assert read_plain_pickle(path) == value


def test_a_set_s_members_are_counted_as_keys_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.official.pickle_bounds.TUPLE_KEYS", 10)
    few, many = (pickle.dumps({(k, k) for k in range(count)}, 4) for count in (8, 400))
    PickleBounds(10**9, len(few)).feed(few)
    with pytest.raises(TooMuch, match="more keys of several values"):
        PickleBounds(10**9, 0).feed(many)


def test_the_reckoning_is_no_less_than_what_is_made() -> None:
    """The estimate against the memory that Python takes for the same values."""
    value: Any
    for value in (
        record(11),
        [[] for _ in range(10_000)],
        {k: {} for k in range(10_000)},
        ["x" * 500] * 3 + ["y" * 5000],
    ):
        data = pickle.dumps(value, 4)
        bounds = PickleBounds(10**9, len(data))
        bounds.feed(data)
        tracemalloc.start()
        made = pickle.loads(data)
        taken = tracemalloc.get_traced_memory()[0]
        tracemalloc.stop()
        assert made
        assert taken < 10**9 - bounds.left < 20 * taken


def test_a_packed_pth_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "x.pth", "w", zipfile.ZIP_DEFLATED) as parts:
        parts.writestr("archive/data.pkl", b"\x80\x02" + b"]0" * 1_000_000 + b"].")
    assert (tmp_path / "x.pth").stat().st_size < 30_000
    assert "more data than it has" in measured(lambda: load_plain_pth(tmp_path / "x.pth"), 24)


def test_tensors_in_a_pth_still_load(tmp_path: Path) -> None:
    content = {"weights": OrderedDict(a=torch.arange(6.0).reshape(2, 3)), "n": np.float64(0.5)}
    for new in (True, False):
        torch.save(content, tmp_path / "x.pth", _use_new_zipfile_serialization=new)
        found = load_plain_pth(tmp_path / "x.pth")
        assert torch.equal(found["weights"]["a"], content["weights"]["a"])  # type: ignore[index]
        assert found["n"] == 0.5


def _gz(path: Path, *parts: bytes) -> Path:
    with gzip.open(path, "wb", compresslevel=1) as file:
        for part in parts:
            file.write(part)
    return path


_HEAD = b"index,arch_str,cifar10_test_acc_200\n"


@pytest.mark.parametrize(
    ("parts", "named"),
    [
        ([_HEAD, b"0" * (4 * MIB)], "line 2 has more than"),
        ([b"x," * (4 * MIB)], "line 1 has more than"),
        ([_HEAD, b'"', b"\n" * (MIB)], "more than"),
        ([_HEAD, b"\n" * (4 * MIB)], "more than"),
        ([_HEAD, b'0,"', b"a\n" * (MIB)], "is not"),
        ([b"index,arch_str," + b",".join(b"cifar10_test_acc_%d" % k for k in range(2000)) + b"\n"], "2,000 columns"),
    ],
    ids=[
        "one line",
        "one line of commas",
        "a quote without an end",
        "empty lines",
        "a field without an end",
        "columns",
    ],
)
def test_packed_tables_that_would_make_much_are_refused(tmp_path: Path, parts: list[bytes], named: str) -> None:
    path = _gz(tmp_path / "t.csv.gz", *parts)
    assert named in measured(lambda: read_csv(path), 8)


def test_a_table_at_its_bounds_is_read(files: OfficialFiles, monkeypatch: pytest.MonkeyPatch) -> None:
    text = files.table.read_bytes()
    lines = text.count(b"\n")
    for name, most in (("LONGEST_LINE", max(map(len, text.split(b"\n"))) + 1), ("MOST_TEXT", len(text))):
        monkeypatch.setattr(csv_table, name, most)
    monkeypatch.setattr(csv_table, "MOST_LINES", lines + 1)
    assert read_csv(files.table).held.sum() == lines - 1
    monkeypatch.setattr(csv_table, "MOST_LINES", lines - 1)
    with pytest.raises(UserError, match="more than"):
        read_csv(files.table)


@pytest.mark.parametrize("read", [read_csv, read_plain_pickle, load_plain_pth, read_index])
@pytest.mark.parametrize("kind", ["pipe", "device", "folder"])
def test_what_is_no_plain_file_is_refused_at_once(tmp_path: Path, read: Callable[[Path], object], kind: str) -> None:
    path = {"pipe": tmp_path / "pipe", "device": Path("/dev/zero"), "folder": tmp_path}[kind]
    if kind == "pipe":
        os.mkfifo(path)
    measured(lambda: read(path), 8, 10)


def _sizes(path: Path) -> int:
    """Bytes unpacked as the file's contents have them."""
    with pq.ParquetFile(path) as file:
        groups = [file.metadata.row_group(k) for k in range(file.metadata.num_row_groups)]
        return sum(group.column(k).total_uncompressed_size for group in groups for k in range(group.num_columns))


def test_the_heads_of_pages_say_what_the_contents_say(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Against Arrow's own sum, which counts the heads too: each is shorter than 100 bytes."""
    path = tmp_path / "x.parquet"
    words = pa.array([f"a{k % 50}" for k in range(5000)])
    pq.write_table(pa.table({"arch_str": words, "v": np.arange(5000.0)}), path, compression="zstd", data_page_size=2000)
    total = 0
    with pq.ParquetFile(path) as file:
        for most in (1, 10**9):
            monkeypatch.setattr(parquet_bounds, "MOST_BYTES", most)
            if most == 1:
                with pytest.raises(UserError, match="unpacks to more than 1 bytes"):
                    parquet_bounds.require_bounded(path, file.metadata)
            else:
                parquet_bounds.require_bounded(path, file.metadata)
        low, high = 1, _sizes(path)
        while high - low > 1:  # the least bound that lets it through is the sum of its pages
            total = (low + high) // 2
            monkeypatch.setattr(parquet_bounds, "MOST_BYTES", total)
            try:
                parquet_bounds.require_bounded(path, file.metadata)
                high = total
            except UserError:
                low = total
    assert _sizes(path) - 100 * 40 < high < _sizes(path)
    assert high > 5000 * 8


def test_parquet_files_that_would_make_much_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x.parquet"
    pq.write_table(pa.table({"v": np.zeros(2**20 + 1)}), path, compression="zstd")
    assert path.stat().st_size < 50_000
    measured(lambda: read_columns(path), 2)
    pq.write_table(pa.table({f"v{k}": [0.0] for k in range(2001)}), path)
    measured(lambda: read_columns(path), 8)
    pq.write_table(pa.table({"v": ["x" * MIB] * 1000}), path, compression="zstd")
    measured(lambda: read_columns(path), 2)
    monkeypatch.setattr(parquet_bounds, "MOST_BYTES", MIB)
    pq.write_table(pa.table({"v": np.arange(2.0**18)}), path)
    measured(lambda: read_columns(path), 2)


def test_a_long_text_in_every_row_is_one_text(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    write_columns({"arch_str": pa.array(["x" * MIB, None, "y"] * 300), "v": pa.array(np.zeros(900))}, {"a": 1}, path)
    tracemalloc.start()
    values, stamp = read_columns(path, texts=("arch_str",))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8 * MIB
    assert stamp["arch_str"][:3] == ["x" * MIB, None, "y"]
    assert len(values["v"]) == len(stamp["arch_str"]) == 900


def test_bounds_are_errors_of_their_own() -> None:
    with pytest.raises(TooMuch, match="more data"):
        PickleBounds(10, 10).feed(b"\x80\x04NN.")
