"""Class-per-folder image trees: which files are images, which class they are of, and what was passed over. No torch.

What begins with a dot or is known as another program's own (`.ipynb_checkpoints`, `.DS_Store`, `__MACOSX`) is no part
of a data set. A file is an image if Pillow decodes the format that its ending stands for, or, where the ending stands
for none, if its first bytes are those of such a format. All else is passed over and counted, so that a run can say so.
"""

import os
import stat
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from cscdarts.data.formats import is_image
from cscdarts.errors import MissingFile, UserError

#: Folders that programs leave behind, beside all names that begin with a dot.
_LEFT_BEHIND = frozenset({"__MACOSX", "@eaDir", "$RECYCLE.BIN", "System Volume Information", "lost+found"})


@dataclass(frozen=True)
class Tree:
    """The images of a class-per-folder tree.

    Attributes:
        files: sorted by class, then by path; labels: the class number of each.
        classes: names of the class folders, sorted.
        skipped: how many entries were passed over, by ending (`.txt`) or by what they are (`hidden name`,
            `named pipe`).
    """

    files: tuple[Path, ...]
    labels: tuple[int, ...]
    classes: tuple[str, ...]
    skipped: Counter[str]


def folder_split(root: Path) -> tuple[Path, Path]:
    """The training and test trees of an image folder: `train/` with `test/`, `val/` or `valid/`.

    Errors:
        UserError: the folder is missing or has another shape.
    """
    allowed = "a folder with train/CLASS/IMAGE and test/CLASS/IMAGE (or val/)"
    if not root.is_dir():
        raise MissingFile(str(root), f"Name {allowed} with --data-root.")
    train, tests = root / "train", test_folders(root)
    if not train.is_dir() or not tests:
        raise UserError("--data-root", str(root), allowed, "It holds no train/ or no test/ folder.")
    return train, tests[0]


def test_folders(root: Path) -> list[Path]:
    """The folders that could be the test tree; the first one is read."""
    return [root / name for name in ("test", "val", "valid") if (root / name).is_dir()]


def class_names(tree: Path) -> tuple[str, ...]:
    """The class folders of a tree, sorted; hidden ones are none.

    Errors:
        UserError: fewer than two.
    """
    found = tuple(sorted(entry.name for entry in _entries(tree) if not _hidden(entry.name) and entry.is_dir()))
    if len(found) < 2:
        raise UserError("--data-root", str(tree), "at least two class folders", "It is no class-per-folder tree.")
    return found


def image_tree(tree: Path, classes: tuple[str, ...] | None = None) -> Tree:
    """All images of a class-per-folder tree.

    Args:
        classes: the classes that the tree must have.

    Errors:
        UserError: fewer than two classes, a class without images, other classes than expected, or a folder that cannot
            be read.
    """
    found = class_names(tree)
    if classes is not None and found != classes:
        odd = sorted(set(found) ^ set(classes))[0]
        raise UserError(
            "--data-root", str(tree), "the classes of the training tree", f"Class {odd!r} is on one side only."
        )
    skipped: Counter[str] = Counter()
    for entry in _entries(tree):
        if _hidden(entry.name):
            skipped["hidden name"] += 1
        elif not entry.is_dir():
            skipped["outside a class folder"] += 1
    files: list[Path] = []
    labels: list[int] = []
    for label, name in enumerate(found):
        passed: Counter[str] = Counter()
        images = sorted(images_below(tree / name, passed))
        if not images:
            why = f"Passed over: {counted(passed)}." if passed else "The class folder holds none."
            raise UserError("--data-root", str(tree / name), "at least one image that Pillow can open", why)
        files += images
        labels += [label] * len(images)
        skipped += passed
    return Tree(tuple(files), tuple(labels), found, skipped)


def images_below(folder: Path, skipped: Counter[str]) -> Iterator[Path]:
    """The image files under a folder, in no order; what else is there is counted in `skipped`.

    Errors:
        UserError: a folder cannot be read.
    """
    for entry in _entries(folder):
        if _hidden(entry.name):
            skipped["hidden name"] += 1
        elif entry.is_dir(follow_symlinks=False):
            yield from images_below(Path(entry.path), skipped)
        elif not _is_regular(entry):
            skipped[_what(entry)] += 1
        elif is_image(Path(entry.path)):
            yield Path(entry.path)
        else:
            skipped[Path(entry.name).suffix.lower() or "no ending"] += 1


def counted(skipped: Counter[str]) -> str:
    """`.txt: 20, hidden name: 3`, the most frequent first, the rarest ones summed up."""
    ranked = sorted(skipped.items(), key=lambda item: (-item[1], item[0]))
    shown = [f"{name}: {count:,}" for name, count in ranked[:5]]
    if len(ranked) > 5:
        shown.append(f"others: {sum(count for _, count in ranked[5:]):,}")
    return ", ".join(shown)


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as found:
            return list(found)
    except OSError as error:
        raise UserError(
            "--data-root", str(folder), "a folder that can be read", f"{error.strerror}; correct it or move it away."
        ) from error


def _hidden(name: str) -> bool:
    return name.startswith(".") or name in _LEFT_BEHIND


def _is_regular(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_file()
    except OSError:  # a link that leads to itself
        return False


def _what(entry: os.DirEntry[str]) -> str:
    """What an entry is that is neither a file nor a folder of its own."""
    try:
        mode = Path(entry.path).stat().st_mode
    except OSError:
        return "dangling link"
    kinds = ((stat.S_ISDIR, "linked folder"), (stat.S_ISFIFO, "named pipe"), (stat.S_ISSOCK, "socket"))
    return next((name for test, name in kinds if test(mode)), "device")
