"""Which data a run learns from: a fingerprint of the files' content, so that a result never answers for other images.

| set | fingerprint |
|---|---|
| `digits` | empty: shipped with scikit-learn |
| `cifar10`, `cifar100` | empty: torchvision checks the MD5 of each file when it opens them |
| `fashion-mnist` | empty where the files are what their archives (of known MD5) unpack to, otherwise of their bytes |
| `image-folder` | SHA-256 of each class's and file's name and bytes |
| `imagenet` | SHA-256 of each class's and file's name and size: the bytes of 1.3 million files are not read |

The path is no part of it: a copied or moved tree has the fingerprint it had. A fingerprint is computed once and
remembered in the user's cache folder with the names, sizes and times of the files (of streamed sets: with the times of
the folders, so that a file that is overwritten in place, neither removed nor renamed, is not seen). No torch.
"""

import contextlib
import gzip
import hashlib
import json
import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from cscdarts.data.folders import folder_split, image_tree
from cscdarts.errors import UserError
from cscdarts.settings.config import RunConfig

#: Raise when fingerprints are made another way: remembered ones are then made again.
_FORMAT = 1
#: Hexadecimal digits that stand in a config.
_DIGITS = 16
_MARK = re.compile("[0-9a-f]{16}")
_SHAPES = {"image-folder": _MARK, "imagenet": _MARK, "fashion-mnist": re.compile("([0-9a-f]{16})?")}
#: MD5 of Fashion-MNIST's archives, as torchvision's `FashionMNIST.resources` has them.
_FASHION_ARCHIVES = {
    "train-images-idx3-ubyte.gz": "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
    "train-labels-idx1-ubyte.gz": "25c81989df183df01b3e8a0aad5dffbe",
    "t10k-images-idx3-ubyte.gz": "bef4ecab320f06d8554ea6380940ec79",
    "t10k-labels-idx1-ubyte.gz": "bb300cfdad3c16e7a12a480ee83cd310",
}


def fingerprint(name: str, root: Path) -> str:
    """The fingerprint of a data set as it lies on disk: 16 hexadecimal digits, or "" where its name alone says it.

    Args:
        name: as `data.dataset`.
        root: as `runtime.data_root`.

    Errors:
        UserError: an image folder that is missing, has another shape or cannot be read.
    """
    if name == "fashion-mnist":
        return _fashion(root / "FashionMNIST" / "raw")
    if name not in ("image-folder", "imagenet"):
        return ""
    streamed = name == "imagenet"
    if streamed and (mark := _recalled_by_folders(name, root)) is not None:
        return mark
    files = list(_tree_files(root))
    watched = _folders(root) if streamed else [path for _, path in files]

    def compute() -> str:
        digest = hashlib.sha256(f"{_FORMAT} {name}\n".encode())
        for label, path in files:
            told = str(_stat(path).st_size) if streamed else _sha256(path)
            digest.update(os.fsencode(label) + f"\0{told}\n".encode())
        return digest.hexdigest()[:_DIGITS]

    return _remembered(name, root, watched, compute, keep_watched=streamed)


def identified(config: RunConfig, of: Callable[[str, Path], str] = fingerprint) -> RunConfig:
    """The config with the fingerprints of its data sets as they lie on disk now; of a set that it does not read none.

    Args:
        of: gives a data set's fingerprint by its name and root.

    Errors:
        UserError: see `fingerprint`.
    """
    data, root = config.data, Path(config.runtime.data_root)
    if config.search.strategy == "given" and not config.runtime.retrain:
        return config
    apart = config.search.trains_supernet and data.searched_dataset != data.dataset
    return with_fingerprints(config, of(data.dataset, root), of(data.searched_dataset, root) if apart else "")


def with_fingerprints(config: RunConfig, own: str, searched: str) -> RunConfig:
    """The config with given fingerprints of `data.dataset` and of another data set that is searched on."""
    update = {"fingerprint": own, "search_fingerprint": searched}
    if (own, searched) == (config.data.fingerprint, config.data.search_fingerprint):
        return config
    return config.model_copy(update={"data": config.data.model_copy(update=update)})


def require_unchanged(name: str, root: Path, known: str) -> None:
    """Make sure that a data set is still the one that a config names.

    Args:
        known: the config's fingerprint of it; "" where none was taken.

    Errors:
        UserError: it is another.
    """
    now = fingerprint(name, root) if known else ""
    if now != known:
        raise UserError(
            "data.fingerprint", now, known, "Put the former images back, or run again on these.",
            f"The images of {name} under {root} are not those of this run: their fingerprint is {now or 'none'}, the "
            f"run's is {known}. Put the former images back, or start a run on these.",
        )  # fmt: skip


def _tree_files(root: Path) -> Iterator[tuple[str, Path]]:
    """(part/class/name as one text, file) of both trees of a class-per-folder set, in the order they are read."""
    train, test = folder_split(root)
    for part, tree in (("train", train), ("test", test)):
        found = image_tree(tree)
        for path, label in zip(found.files, found.labels, strict=True):
            below = path.relative_to(tree / found.classes[label]).as_posix()
            yield f"{part}\0{found.classes[label]}\0{below}", path


def _folders(root: Path) -> list[Path]:
    """Every folder in which a file of either tree can appear or go without another one's time changing."""
    trees = folder_split(root)
    # Class folders may be links; within them none is followed, as `images_below` follows none.
    classes = [entry for tree in trees for entry in sorted(tree.iterdir()) if entry.is_dir()]
    return [root, *trees, *(Path(place) for entry in classes for place, _, _ in os.walk(entry))]


def _fashion(raw: Path) -> str:
    paths = [raw / name.removesuffix(".gz") for name in _FASHION_ARCHIVES]
    if not all(path.is_file() for path in paths):
        return ""  # torchvision downloads all of it and checks it
    archives = [raw / name for name in _FASHION_ARCHIVES if (raw / name).is_file()]

    def compute() -> str:
        if len(archives) == len(_FASHION_ARCHIVES) and all(map(_genuine, archives)):
            return ""
        return hashlib.sha256("".join(map(_sha256, paths)).encode()).hexdigest()[:_DIGITS]

    return _remembered("fashion-mnist", raw, [*paths, *archives], compute)


def _genuine(archive: Path) -> bool:
    """Whether an archive is the published one and the file beside it what it unpacks to."""
    data = archive.read_bytes()
    unpacked = archive.with_suffix("")
    if hashlib.md5(data, usedforsecurity=False).hexdigest() != _FASHION_ARCHIVES[archive.name]:
        return False
    return unpacked.is_file() and gzip.decompress(data) == unpacked.read_bytes()


def _sha256(path: Path) -> str:
    with _readable(path), path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _stat(path: Path) -> os.stat_result:
    with _readable(path):
        return path.stat()


@contextlib.contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Makes a sentence of what the system says of a file."""
    try:
        yield
    except OSError as error:
        raise UserError(
            "--data-root", str(path), "a file that can be read", f"{error.strerror}; correct it or move it away."
        ) from error


def _stamps(root: Path, paths: Iterable[Path]) -> str:
    """Digest of names, sizes and times of some files or folders; whoever sets a file's own time back cannot do so with
    the system's."""
    digest = hashlib.sha256()
    for path in paths:
        stat = _stat(path)
        told = f"\0{stat.st_size}\0{stat.st_mtime_ns}\0{stat.st_ctime_ns}\0{stat.st_ino}\n"
        digest.update(os.fsencode(os.path.relpath(path, root)) + told.encode())
    return digest.hexdigest()


def cache_folder() -> Path:
    """Where what can be computed again is remembered: `CSCDARTS_CACHE`, or `cscdarts` in the user's cache folder."""
    own = os.environ.get("CSCDARTS_CACHE")
    base = os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser()
    return Path(own) if own else Path(base) / "cscdarts"


def _place(name: str, root: Path) -> Path:
    """Where a set's fingerprint is remembered, below `cache_folder()`."""
    place = hashlib.sha256(f"{name}\0".encode() + os.fsencode(root.resolve())).hexdigest()[:_DIGITS]
    return Path(f"fingerprints/{place}.json")


def _recall(name: str, root: Path) -> dict[str, Any]:
    """What is remembered of a set; {} where that is nothing, or nothing that can be read, or there is no home."""
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError, RuntimeError):
        known = json.loads((cache_folder() / _place(name, root)).read_text(encoding="utf-8"))
        if known["format"] == _FORMAT and _SHAPES[name].fullmatch(known["fingerprint"]):
            return dict(known)
    return {}


def _recalled_by_folders(name: str, root: Path) -> str | None:
    """A streamed set's fingerprint where its folders are as they were: to list a million files takes minutes on shared
    file systems, and commands ask for this one whenever they look at a grid."""
    known = _recall(name, root)
    with contextlib.suppress(KeyError, TypeError, ValueError, UserError):
        if _stamps(root, [root / str(one) for one in known["watched"]]) == known["stamps"]:
            return str(known["fingerprint"])
    return None


def _remembered(
    name: str, root: Path, watched: Sequence[Path], compute: Callable[[], str], keep_watched: bool = False
) -> str:
    """A fingerprint, from the cache where what is watched has the sizes and times that it remembers.

    Args:
        keep_watched: remember the watched paths too, so that they need not be looked for again.
    """
    stamps, known = _stamps(root, watched), _recall(name, root)
    if known.get("stamps") == stamps and ("watched" in known or not keep_watched):
        return str(known["fingerprint"])
    value = compute()
    content: dict[str, Any] = {
        "format": _FORMAT, "root": str(root.resolve()), "stamps": stamps, "fingerprint": value
    }  # fmt: skip
    if keep_watched:
        content["watched"] = [os.path.relpath(path, root) for path in watched]
    with contextlib.suppress(OSError, RuntimeError):  # a home that cannot be written costs time, not a run
        target = cache_folder() / _place(name, root)
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = target.with_name(f".{target.name}.{os.getpid()}")
        temporary.write_text(json.dumps(content, indent=1), encoding="utf-8")
        temporary.replace(target)
    return value
