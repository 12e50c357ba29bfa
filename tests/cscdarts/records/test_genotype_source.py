"""Where genotypes come from: files in the encodings of editors and shells, standard input, run folders."""

import io
import json
import sys
from pathlib import Path

import pytest

from cscdarts.errors import UserError
from cscdarts.records import genotype_source
from cscdarts.records.genotype_source import read_genotype
from cscdarts.spaces.known import KNOWN_GENOTYPES

CELL = KNOWN_GENOTYPES["SNAS"]
#: The comment has signs that no encoding but its own gives back, and that Latin-1 and UTF-8 write differently.
LOG = f"# Größe: 422 M\r\n06/27 01:25:46 PM epoch 49\r\n06/27 01:25:46 PM genotype = {CELL}\r\n"


@pytest.mark.parametrize(
    "encoding",
    ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "latin-1", "cp1252"],
)
def test_every_encoding_gives_the_same_cell(tmp_path: Path, encoding: str) -> None:
    path = tmp_path / "log.txt"
    path.write_bytes(LOG.encode(encoding))
    reading = read_genotype(str(path))
    assert reading.genotype == CELL
    assert reading.notes == ("took the cell: line 3, epoch 49",)


@pytest.mark.parametrize("order", ["le", "be"])
def test_utf16_with_its_mark_as_powershell_writes(tmp_path: Path, order: str) -> None:
    path = tmp_path / "cell.txt"
    path.write_bytes(f"\ufeff{CELL}\r\n".encode(f"utf-16-{order}"))
    assert read_genotype(str(path)).genotype == CELL


def test_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(LOG.encode("utf-16"))))
    assert read_genotype("-").genotype == CELL


def test_a_run_folder_of_ours_and_one_of_another_repository(tmp_path: Path) -> None:
    ours, theirs, unfinished = tmp_path / "ours", tmp_path / "search-EXP-20190627-012546", tmp_path / "unfinished"
    for folder in (ours, theirs, unfinished):
        folder.mkdir()
        (folder / "log.txt").write_text(LOG)
    (ours / "config.json").write_text("{}")
    other = KNOWN_GENOTYPES["PDARTS"]
    (ours / "genotype.json").write_text(json.dumps({"space": "darts", "text": str(other), "epoch": 49}))
    (unfinished / "config.json").write_text("{}")
    assert read_genotype(str(ours)).genotype == other
    assert read_genotype(str(ours / "genotype.json")).genotype == other
    assert read_genotype(str(theirs)).genotype == CELL
    with pytest.raises(UserError, match="Its search has not finished"):
        read_genotype(str(unfinished))


def test_a_cell_of_a_file_by_name_and_by_line(tmp_path: Path) -> None:
    path = tmp_path / "genotypes.py"
    path.write_text("".join(f"{name} = {cell}\n" for name, cell in KNOWN_GENOTYPES.items()))
    assert read_genotype(f"{path}:PDARTS").genotype == KNOWN_GENOTYPES["PDARTS"]
    assert read_genotype(f"{path}:1").genotype == KNOWN_GENOTYPES["DARTS_V1"]
    assert read_genotype(f"{path}:PDARTS").notes == ("took the cell: PDARTS, line 5",)
    with pytest.raises(UserError, match=r"genotypes\.py: 'NASNet' is not valid; allowed: DARTS_V1, "):
        read_genotype(f"{path}:NASNet")


def test_a_file_whose_name_has_a_colon_is_itself(tmp_path: Path) -> None:
    (tmp_path / "cell:PDARTS").write_text(str(CELL))
    assert read_genotype(f"{tmp_path}/cell:PDARTS").genotype == CELL


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "'nothing' is not valid"),
        (b"train_acc 97\nvalid_acc 90\n", "'3 lines without a cell' is not valid"),
        (
            b"\x80\x04\x95\x1f\x00\x00\x00\x00\x00\x00\x00\x8c\x08genotype",
            "'a binary file' is not valid; allowed: text",
        ),
        (b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR", "'a binary file' is not valid; allowed: text"),
        (b"epoch 1\ngenotype = Genotype(normal=[('conv', 0)], ", "line 2: 'cut off' is not valid"),
    ],
)
def test_files_without_a_cell_are_refused_by_name(tmp_path: Path, content: bytes, sentence: str) -> None:
    path = tmp_path / "given.txt"
    path.write_bytes(content)
    with pytest.raises(UserError) as refused:
        read_genotype(str(path))
    assert str(path) in str(refused.value)
    assert sentence in str(refused.value)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    for path in (tmp_path / "search" / "log.txt", Path("nowhere.json")):
        with pytest.raises(UserError, match=rf"There is no {path}\. Check the path\."):
            read_genotype(str(path))


def test_a_file_too_large_is_not_read_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(genotype_source, "LARGEST_MIB", 1)
    path = tmp_path / "huge.log"
    path.write_bytes(b"epoch 1\n" * (2**17 + 1))
    with pytest.raises(UserError, match="'more than 1 MiB' is not valid; allowed: up to 1 MiB"):
        read_genotype(str(path))


def test_text_that_no_file_name_may_be(tmp_path: Path) -> None:
    assert read_genotype(str(CELL) + "\n" * 5000).genotype == CELL
    assert read_genotype(f"{CELL}\0").genotype == CELL
