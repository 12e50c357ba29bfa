"""Small image files of kinds that Pillow reads but does not write, and class-per-folder trees of any kind."""

import struct
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

CLASSES = ("ape", "bee")

#: PNG colour types.
GRAY, RGB, GRAY_ALPHA, RGB_ALPHA = 0, 2, 4, 6
#: TIFF types: tag -> (type, values); 3 is an unsigned short, 4 a long, 11 a float.
Tags = dict[int, tuple[int, Sequence[float]]]


def pattern(seed: int, size: int = 16) -> np.ndarray:
    """(size, size) uint8, of its own for each seed, with both ends of the scale in it."""
    values = np.random.default_rng(seed).integers(0, 256, (size, size), dtype=np.uint8)
    values[0, :2] = 0, 255
    return values


def tree(root: Path, save: Callable[[Path, int], object], ending: str = ".png", train: int = 6, test: int = 3) -> Path:
    """`root/train/ape/000.png` and so on; `save(path, seed)` writes one image."""
    seed = 0
    for part, count in (("train", train), ("test", test)):
        for name in CLASSES:
            folder = root / part / name
            folder.mkdir(parents=True)
            for number in range(count):
                save(folder / f"{number:03d}{ending}", seed)
                seed += 1
    return root


def rgb_tree(root: Path, size: int = 16, train: int = 6, test: int = 3) -> Path:
    """A tree of RGB PNG files of `pattern`s."""
    return tree(root, lambda path, seed: save_rgb(path, gray_rgb(pattern(seed, size))), train=train, test=test)


def save_rgb(path: Path, pixels: np.ndarray) -> None:
    """Pixels (h, w, 3) uint8 as an RGB file of the format that the ending says."""
    Image.fromarray(pixels).save(path)


def gray_rgb(values: np.ndarray) -> np.ndarray:
    """(h, w) as (h, w, 3)."""
    return np.repeat(values[..., None], 3, axis=2)


def write_png(path: Path, samples: np.ndarray, colour: int, bits: int = 16, transparent: bytes = b"") -> None:
    """A PNG of (h, w, channels) samples of 8 or 16 bits."""

    h, w, _ = samples.shape
    rows = b"".join(b"\0" + row.astype(">u2" if bits == 16 else "u1").tobytes() for row in samples)
    _png_chunks(path, (w, h), bits, colour, transparent, rows)


def png_bomb(path: Path, width: int, height: int) -> None:
    """A PNG file of a few bytes that declares a size."""
    _png_chunks(path, (width, height), 8, GRAY, b"", b"")


def _png_chunks(path: Path, size: tuple[int, int], bits: int, colour: int, transparent: bytes, rows: bytes) -> None:
    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    path.write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", struct.pack(">IIBBBBB", *size, bits, colour, 0, 0, 0))
        + (chunk(b"tRNS", transparent) if transparent else b"")
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )


def write_tiff(path: Path, values: np.ndarray, tags: Tags | None = None, bits: int | None = None) -> None:
    """A one-channel little-endian TIFF of (h, w) values.

    Args:
        tags: beside those that the array gives, or instead of them.
        bits: of a sample where `values` are packed bytes (h, bytes per row).
    """
    kinds = {"u": 1, "i": 2, "f": 3}
    h, w = values.shape if bits is None else (values.shape[0], values.shape[1] * 8 // bits)
    data = np.ascontiguousarray(values).astype(values.dtype.newbyteorder("<")).tobytes()
    formats = {3: "H", 4: "I", 11: "f"}
    entries: Tags = {
        256: (4, [w]), 257: (4, [h]), 258: (3, [bits or values.dtype.itemsize * 8]), 259: (3, [1]), 262: (3, [1]),
        273: (4, [8]), 277: (3, [1]), 278: (4, [h]), 279: (4, [len(data)]), 339: (3, [kinds[values.dtype.kind]]),
        **(tags or {}),
    }  # fmt: skip
    directory = struct.pack("<H", len(entries))
    for tag, (kind, numbers) in sorted(entries.items()):
        content = struct.pack(f"<{len(numbers)}{formats[kind]}", *numbers)
        assert len(content) <= 4
        directory += struct.pack("<HHI", tag, kind, len(numbers)) + content.ljust(4, b"\0")
    path.write_bytes(struct.pack("<2sHI", b"II", 42, 8 + len(data)) + data + directory + struct.pack("<I", 0))
