"""Class-per-folder image trees, looked at without opening an image. No torch."""

from pathlib import Path

from cscdarts.errors import UserError
from cscdarts.settings.config import RunConfig

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp", ".ppm", ".pgm", ".tif", ".tiff"})


def folder_split(root: Path) -> tuple[Path, Path]:
    """The training and test trees of an image folder: `train/` with `test/`, `val/` or `valid/`.

    Errors:
        UserError: the folder is missing or has another shape.
    """
    allowed = "a folder with train/CLASS/IMAGE and test/CLASS/IMAGE (or val/)"
    if not root.is_dir():
        raise UserError("--data-root", str(root), allowed, "There is no such folder.")
    train = root / "train"
    test = next((root / name for name in ("test", "val", "valid") if (root / name).is_dir()), None)
    if not train.is_dir() or test is None:
        raise UserError("--data-root", str(root), allowed, "It holds no train/ or no test/ folder.")
    return train, test


def class_names(tree: Path) -> tuple[str, ...]:
    """The class folders of a tree, sorted.

    Errors:
        UserError: fewer than two.
    """
    found = tuple(sorted(folder.name for folder in tree.iterdir() if folder.is_dir()))
    if len(found) < 2:
        raise UserError("--data-root", str(tree), "at least two class folders", "It is no class-per-folder tree.")
    return found


def require_data(config: RunConfig) -> None:
    """Refuse a folder that is no data set before any run begins; data that are downloaded or shipped pass.

    Errors:
        UserError: see `folder_split` and `class_names`.
    """
    for name in {config.data.dataset, config.data.search_dataset}:
        if name in ("image-folder", "imagenet"):
            for tree in folder_split(Path(config.runtime.data_root)):
                class_names(tree)


def folder_files(tree: Path, classes: tuple[str, ...] | None = None) -> tuple[list[Path], list[int], tuple[str, ...]]:
    """All images of a class-per-folder tree in sorted order, their labels, and the class names.

    Errors:
        UserError: fewer than two classes, a class without images, or other classes than expected.
    """
    found = class_names(tree)
    if classes is not None and found != classes:
        odd = sorted(set(found) ^ set(classes))[0]
        raise UserError(
            "--data-root", str(tree), "the classes of the training tree", f"Class {odd!r} is on one side only."
        )
    files: list[Path] = []
    labels: list[int] = []
    for label, name in enumerate(found):
        images = sorted(path for path in (tree / name).rglob("*") if path.suffix.lower() in IMAGE_SUFFIXES)
        if not images:
            raise UserError("--data-root", str(tree / name), "at least one image", "The class folder holds none.")
        files += images
        labels += [label] * len(images)
    return files, labels, found
