"""Fingerprints of data: of the content and of nothing else, remembered, and right whatever is remembered."""

import gzip
import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from cscdarts.data import fingerprint as module
from cscdarts.data.fingerprint import cache_folder, fingerprint, identified, require_unchanged
from cscdarts.errors import UserError
from cscdarts.settings.config import RunConfig
from cscdarts.settings.overrides import with_values
from tests.support.pictures import rgb_tree


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CSCDARTS_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    return rgb_tree(tmp_path / "tree", size=8)


def _once(cache: Path, name: str, root: Path) -> str:
    """The fingerprint without what is remembered."""
    shutil.rmtree(cache, ignore_errors=True)
    return fingerprint(name, root)


@pytest.mark.parametrize("name", ["digits", "cifar10", "cifar100"])
def test_sets_whose_name_says_their_content_have_none(tmp_path: Path, name: str) -> None:
    assert fingerprint(name, tmp_path / "nowhere") == ""


@pytest.mark.parametrize("name", ["image-folder", "imagenet"])
def test_a_moved_and_a_copied_tree_are_the_same_data(tree: Path, tmp_path: Path, name: str) -> None:
    first = fingerprint(name, tree)
    assert len(first) == 16
    shutil.copytree(tree, tmp_path / "copy", copy_function=shutil.copyfile)
    assert fingerprint(name, tmp_path / "copy") == first
    tree.rename(tmp_path / "moved")
    assert fingerprint(name, tmp_path / "moved") == first
    (tmp_path / "link").symlink_to(tmp_path / "moved")
    assert fingerprint(name, tmp_path / "link") == first


def test_the_two_kinds_of_one_tree_differ(tree: Path) -> None:
    assert fingerprint("image-folder", tree) != fingerprint("imagenet", tree)


def test_a_test_tree_may_be_called_val(tree: Path) -> None:
    first = fingerprint("image-folder", tree)
    (tree / "test").rename(tree / "val")
    assert fingerprint("image-folder", tree) == first


def _flip_a_byte(root: Path) -> None:
    file = root / "test/bee/002.png"
    data = bytearray(file.read_bytes())
    data[-20] ^= 1
    times = file.stat().st_atime_ns, file.stat().st_mtime_ns
    file.write_bytes(bytes(data))
    os.utime(file, ns=times)  # same name, size, inode and time


def _longer(root: Path) -> None:
    (root / "train/ape/000.png").write_bytes((root / "train/ape/000.png").read_bytes() + b"\0")


def _rename_class(root: Path) -> None:
    for part in ("train", "test"):
        (root / part / "bee").rename(root / part / "cow")


def _swap_labels(root: Path) -> None:
    for part in ("train", "test"):
        (root / part / "ape").rename(root / "between")
        (root / part / "bee").rename(root / part / "ape")
        (root / "between").rename(root / part / "bee")


def _exchange_two(root: Path) -> None:
    one, other = root / "train/ape/000.png", root / "train/bee/000.png"
    one.rename(root / "between")
    other.rename(one)
    (root / "between").rename(other)


def _exchange_in_a_class(root: Path) -> None:
    one, other = root / "train/ape/000.png", root / "train/ape/001.png"
    one.rename(root / "between")
    other.rename(one)
    (root / "between").rename(other)


def _one_more(root: Path) -> None:
    shutil.copy(root / "train/ape/000.png", root / "train/ape/zzz.png")


def _one_less(root: Path) -> None:
    (root / "train/ape/003.png").unlink()


def _rename_file(root: Path) -> None:
    (root / "train/ape/003.png").rename(root / "train/ape/a003.png")


def _to_the_other_part(root: Path) -> None:
    (root / "train/ape/003.png").rename(root / "test/ape/003.png")


def _into_a_folder(root: Path) -> None:
    (root / "train/ape/more").mkdir()
    (root / "train/ape/003.png").rename(root / "train/ape/more/003.png")


CHANGES: tuple[Callable[[Path], None], ...] = (
    _flip_a_byte, _longer, _rename_class, _swap_labels, _exchange_two, _exchange_in_a_class, _one_more, _one_less,
    _rename_file, _to_the_other_part, _into_a_folder,
)  # fmt: skip


@pytest.mark.parametrize("change", CHANGES)
def test_each_change_of_the_content_is_another_fingerprint(
    tree: Path, cache: Path, change: Callable[[Path], None]
) -> None:
    first = fingerprint("image-folder", tree)
    change(tree)
    remembered = fingerprint("image-folder", tree)
    assert remembered != first
    assert _once(cache, "image-folder", tree) == remembered


@pytest.mark.parametrize(
    "change", [_rename_class, _one_more, _one_less, _rename_file, _to_the_other_part, _into_a_folder]
)
def test_of_streamed_sets_names_count(tree: Path, cache: Path, change: Callable[[Path], None]) -> None:
    first = fingerprint("imagenet", tree)
    change(tree)
    remembered = fingerprint("imagenet", tree)
    assert remembered != first
    assert _once(cache, "imagenet", tree) == remembered


def test_of_streamed_sets_sizes_count_and_bytes_do_not(tree: Path, cache: Path) -> None:
    first = fingerprint("imagenet", tree)
    _flip_a_byte(tree)
    assert _once(cache, "imagenet", tree) == first
    larger = tree / "train/ape/larger"
    larger.write_bytes((tree / "train/ape/000.png").read_bytes() + b"\0")
    larger.replace(tree / "train/ape/000.png")
    assert fingerprint("imagenet", tree) != first


def test_a_streamed_set_that_is_remembered_is_not_listed_again(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """1.3 million files; what is added anywhere, be it a folder in place of the one that is tested on, is seen."""
    first = fingerprint("imagenet", tree)
    with monkeypatch.context() as patch:
        patch.setattr("cscdarts.data.fingerprint.image_tree", None)
        assert fingerprint("imagenet", tree) == first
    (tree / "train/ape/deep/deeper").mkdir(parents=True)
    assert fingerprint("imagenet", tree) == first
    shutil.copy(tree / "train/ape/000.png", tree / "train/ape/deep/deeper/zzz.png")
    second = fingerprint("imagenet", tree)
    assert second != first
    (tree / "test").rename(tree / "val")
    assert fingerprint("imagenet", tree) == second
    shutil.copytree(tree / "val", tree / "test")
    (tree / "test/bee/002.png").unlink()
    assert fingerprint("imagenet", tree) != second


@pytest.mark.parametrize("name", ["notes.txt", ".DS_Store", ".hidden/000.png"])
def test_what_is_no_image_is_no_part_of_it(tree: Path, name: str) -> None:
    first = fingerprint("image-folder", tree)
    (tree / "train/ape" / name).parent.mkdir(exist_ok=True)
    (tree / "train/ape" / name).write_text("nothing")
    assert fingerprint("image-folder", tree) == first


def test_touched_files_are_read_again_and_are_the_same(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read, sha256 = [], module._sha256

    def counting(path: Path) -> str:
        read.append(path)
        return sha256(path)

    monkeypatch.setattr(module, "_sha256", counting)
    first = fingerprint("image-folder", tree)
    assert (len(read), fingerprint("image-folder", tree), len(read)) == (18, first, 18)
    for path in tree.rglob("*.png"):
        path.touch()
    assert (fingerprint("image-folder", tree), len(read)) == (first, 36)


def test_names_in_any_encoding(tree: Path) -> None:
    first = fingerprint("image-folder", tree)
    target = Path(os.fsdecode(os.fsencode(tree / "train/ape") + b"/\xff\n.png"))
    try:
        (tree / "train/ape/000.png").rename(target)
    except OSError:
        pytest.skip("this file system takes no such names")
    assert fingerprint("image-folder", tree) != first
    assert len(fingerprint("imagenet", tree)) == 16
    odd = Path(os.fsdecode(os.fsencode(tree.parent) + b"/\xfe"))
    tree.rename(odd)
    assert fingerprint("image-folder", odd) == fingerprint("image-folder", odd)


# --- what is remembered ------------------------------------------------------------------------------------


def _spoil(cache: Path, content: bytes) -> None:
    (file,) = (cache / "fingerprints").iterdir()
    file.write_bytes(content)


SPOILT = (
    b"", b"{", b"[]", b"null", b"5", b"\xff\xfe", b"[" * 100_000, b'{"format": 1}', b'{"format": [1], "stamps": 0}',
)  # fmt: skip


@pytest.mark.parametrize("content", SPOILT)
def test_a_note_that_cannot_be_read_is_made_again(tree: Path, cache: Path, content: bytes) -> None:
    first = fingerprint("image-folder", tree)
    _spoil(cache, content)
    assert fingerprint("image-folder", tree) == first
    assert fingerprint("image-folder", tree) == first


@pytest.mark.parametrize("value", [None, 5, "", "xyz", "0" * 15, ["0" * 16]])
def test_a_note_without_a_fingerprint_is_not_believed(tree: Path, cache: Path, value: object) -> None:
    first = fingerprint("image-folder", tree)
    (file,) = (cache / "fingerprints").iterdir()
    note = json.loads(file.read_text())
    file.write_text(json.dumps({**note, "fingerprint": value}))
    assert fingerprint("image-folder", tree) == first


def test_a_cache_that_is_a_file(tree: Path, cache: Path) -> None:
    first = fingerprint("image-folder", tree)
    shutil.rmtree(cache)
    cache.write_text("mine")
    assert fingerprint("image-folder", tree) == first
    assert cache.read_text() == "mine"


def test_a_cache_that_cannot_be_written(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = fingerprint("image-folder", tree)
    monkeypatch.setenv("CSCDARTS_CACHE", "/proc/none")
    assert fingerprint("image-folder", tree) == first


def test_without_a_home(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = fingerprint("image-folder", tree)

    def homeless(path: Path) -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("CSCDARTS_CACHE")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(Path, "expanduser", homeless)
    assert fingerprint("image-folder", tree) == first


def test_where_it_is_remembered(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("CSCDARTS_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_folder() == tmp_path / "xdg" / "cscdarts"


# --- sentences ---------------------------------------------------------------------------------------------


def test_a_tree_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="nowhere"):
        fingerprint("image-folder", tmp_path / "nowhere")


def test_a_file_that_cannot_be_read(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "stat", denied)
    with pytest.raises(UserError, match="Permission denied"):
        module._stat(tree / "train/ape/000.png")


def test_other_images_than_known_are_refused_with_both_fingerprints(tree: Path) -> None:
    first = fingerprint("image-folder", tree)
    require_unchanged("image-folder", tree, first)
    require_unchanged("digits", tree, "")
    _flip_a_byte(tree)
    with pytest.raises(UserError) as error:
        require_unchanged("image-folder", tree, first)
    assert first in str(error.value)
    assert fingerprint("image-folder", tree) in str(error.value)


def test_a_config_gets_the_fingerprint_of_each_of_its_sets(tree: Path) -> None:
    values = {"data.dataset": "image-folder", "runtime.data_root": str(tree)}
    config = with_values(RunConfig(), values)
    found = identified(config)
    assert (found.data.fingerprint, found.data.search_fingerprint) == (fingerprint("image-folder", tree), "")
    assert found.hash != config.hash
    assert identified(found) == found
    searched = identified(with_values(config, {"data.search_dataset": "imagenet"}))
    assert searched.data.search_fingerprint == fingerprint("imagenet", tree)
    other = identified(with_values(config, {"data.dataset": "digits", "data.search_dataset": "image-folder"}))
    assert (other.data.fingerprint, other.data.search_fingerprint) == ("", fingerprint("image-folder", tree))
    assert identified(RunConfig()) == RunConfig()


# --- Fashion-MNIST: its archives are known, its unpacked files are what is read ----------------------------


@pytest.fixture
def fashion(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The eight files, with archives that pass for the published ones."""
    raw = tmp_path / "data" / "FashionMNIST" / "raw"
    raw.mkdir(parents=True)
    known = {}
    for name in module._FASHION_ARCHIVES:
        (raw / name).write_bytes(gzip.compress(name.encode(), mtime=0))
        known[name] = hashlib.md5((raw / name).read_bytes(), usedforsecurity=False).hexdigest()
        (raw / name.removesuffix(".gz")).write_bytes(name.encode())
    monkeypatch.setattr(module, "_FASHION_ARCHIVES", known)
    return raw


def test_fashion_mnist_as_published_has_none(fashion: Path, tmp_path: Path) -> None:
    assert fingerprint("fashion-mnist", tmp_path / "data") == ""
    assert fingerprint("fashion-mnist", tmp_path / "data") == ""
    assert fingerprint("fashion-mnist", tmp_path / "nowhere") == ""


@pytest.mark.parametrize("name", [name.removesuffix(".gz") for name in module._FASHION_ARCHIVES])
def test_a_replaced_file_of_fashion_mnist(fashion: Path, tmp_path: Path, name: str) -> None:
    assert fingerprint("fashion-mnist", tmp_path / "data") == ""
    (fashion / name).write_bytes(b"x" * len((fashion / name).read_bytes()))
    one = fingerprint("fashion-mnist", tmp_path / "data")
    assert len(one) == 16
    (fashion / name).write_bytes(b"y" * len((fashion / name).read_bytes()))
    assert fingerprint("fashion-mnist", tmp_path / "data") not in ("", one)
    (fashion / name).write_bytes(f"{name}.gz".encode())
    assert fingerprint("fashion-mnist", tmp_path / "data") == ""


def test_archives_that_are_not_the_published_ones_prove_nothing(fashion: Path, tmp_path: Path) -> None:
    name = next(iter(module._FASHION_ARCHIVES))
    (fashion / name).write_bytes(gzip.compress(b"other"))
    (fashion / name.removesuffix(".gz")).write_bytes(b"other")
    other = fingerprint("fashion-mnist", tmp_path / "data")
    assert len(other) == 16
    (fashion / name).unlink()
    assert fingerprint("fashion-mnist", tmp_path / "data") == other


def test_what_is_incomplete_is_downloaded_whole(fashion: Path, tmp_path: Path) -> None:
    """torchvision asks for all four files and otherwise unpacks all of them again, from archives that it checks."""
    first, second, *_ = (name.removesuffix(".gz") for name in module._FASHION_ARCHIVES)
    (fashion / first).unlink()
    (fashion / second).write_bytes(b"other")
    assert fingerprint("fashion-mnist", tmp_path / "data") == ""
