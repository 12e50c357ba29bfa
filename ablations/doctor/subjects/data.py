"""The data sets: what lies under the data root, and whether a grid's runs find theirs. No pixel is read."""

import os
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

from ablations.doctor.finding import Finding, bad, good, weak
from ablations.doctor.question import Question
from ablations.doctor.subjects.disk import room
from cscdarts.data.limits import require_data
from cscdarts.errors import UserError
from cscdarts.settings.config import RunConfig
from cscdarts.settings.sections.runtime import RuntimeConfig

#: Data set -> the folder under the data root in which torchvision keeps it, its files and its class there.
DOWNLOADED = {
    "cifar10": ("cifar-10-batches-py", (*(f"data_batch_{k}" for k in range(1, 6)), "test_batch", "batches.meta"),
                "CIFAR10"),
    "cifar100": ("cifar-100-python", ("train", "test", "meta"), "CIFAR100"),
    "fashion-mnist": (
        "FashionMNIST/raw",
        tuple(f"{part}-{kind}-ubyte" for part in ("train", "t10k") for kind in ("images-idx3", "labels-idx1")),
        "FashionMNIST",
    ),
}  # fmt: skip
#: Bytes that a download takes at most, archive and all.
_DOWNLOAD_BYTES = 400 * 10**6


def root_there(question: Question) -> Iterator[Finding]:
    """The data root, and which data sets lie there."""
    root = Path(question.data_root or RuntimeConfig().data_root)
    if question.source and not question.data_root:
        return  # the grid's own root is looked at with its data
    if not root.exists():
        yield good("data", f"{root} is not there yet: the first run that needs it makes it.")
        return
    if not os.access(root, os.R_OK | os.X_OK):
        yield bad("data", f"{root} cannot be read.", "--data-root FOLDER, or correct its rights.")
        return
    found = [name for name in DOWNLOADED if _missing_files(name, root) == []]
    if (root / "train").is_dir():
        found.append("a tree of images")
    yield good("data", f"{root} holds {', '.join(found) if found else 'no data set yet'}.")


def of_grid(question: Question) -> Iterator[Finding]:
    """Each data set of a grid's runs, by name and root."""
    grid = question.grid()
    if grid is None:
        return
    asked: dict[tuple[str, str], list[RunConfig]] = {}
    for config in (point.config for point in grid.points):
        sets = {config.data.dataset, config.data.searched_dataset if config.search.trains_supernet else ""} - {""}
        for name in sorted(sets):
            asked.setdefault((name, config.runtime.data_root), []).append(config)
    for (name, root), configs in asked.items():
        yield from _one(name, Path(root), len(configs))
    # Each distinct demand once: batch sizes and shares differ between settings, not between seeds.
    demands = {(config.data, config.search.batch_size, config.evaluation.batch_size): config
               for config in (point.config for point in grid.points)}  # fmt: skip
    sentences: dict[str, None] = {}
    for config in demands.values():
        try:
            require_data(config)
        except UserError as error:
            sentences[str(error)] = None
    for sentence in sentences:
        yield bad("data", sentence)


def _one(name: str, root: Path, runs: int) -> Iterator[Finding]:
    told = f"{name}, for {runs} run{'s' * (runs != 1)}"
    if name == "digits":
        if find_spec("sklearn") is None:
            yield bad("data", f"{told}: it ships with scikit-learn, which is missing.", "pip install scikit-learn")
        else:
            yield good("data", f"{told}: ships with scikit-learn.")
        return
    if name not in DOWNLOADED:
        if root.is_dir():
            yield good("data", f"{told}: read from the tree {root}.")
        return  # what is wrong with a tree `require_data` says
    folder, files, kind = DOWNLOADED[name]
    missing = _missing_files(name, root)
    if not missing:
        yield good("data", f"{told}: in {root / folder}.")
        return
    if (root / folder).is_dir() and len(missing) < len(files):
        yield bad("data", f"{told}: {root / folder} lacks {', '.join(missing)}.", "Remove that folder, or fill it.")
        return
    place = room(root)
    if not place.writable:
        way = "--data-root FOLDER, or put the data there."
        yield bad("data", f"{told}: not under {root}, and nothing can be downloaded to it.", way)
    elif place.free < _DOWNLOAD_BYTES:
        way = "Free some, or --data-root FOLDER."
        yield bad("data", f"{told}: not under {root}, with too little room to download it.", way)
    else:
        script = f"from torchvision.datasets import {kind} as T; [T({str(root)!r}, t, download=True) for t in (0, 1)]"
        way = f'Nodes without a network need it there first: python -c "{script}"'
        yield weak("data", f"{told}: not under {root} yet; the first run downloads it.", way)


def _missing_files(name: str, root: Path) -> list[str]:
    folder, files, _ = DOWNLOADED[name]
    return [file for file in files if not (root / folder / file).is_file()]


CHECKS = {"the data root": root_there, "the grid's data": of_grid}
