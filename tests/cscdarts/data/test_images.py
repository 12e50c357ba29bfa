"""What a file stores is what is learned from: each kind of image against known values, held whole and streamed."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

from cscdarts.data.images import BACKGROUNDS, decode
from cscdarts.data.open import open_data
from cscdarts.data.source import DataSet, Place
from cscdarts.errors import UserError
from cscdarts.settings.config import DataConfig
from tests.support.pictures import (
    GRAY,
    GRAY_ALPHA,
    RGB,
    RGB_ALPHA,
    Tags,
    gray_rgb,
    pattern,
    png_bomb,
    rgb_tree,
    save_rgb,
    tree,
    write_png,
    write_tiff,
)

CPU = Place(torch.device("cpu"))
FLOAT_RANGE: Tags = {340: (11, [-1.0]), 341: (11, [1.0])}

#: Writes an image and returns the pixels (h, w, 3) that are to be read.
Kind = Callable[[Path, int], np.ndarray]


def open_tree(root: Path, dataset: str, **values: object) -> DataSet:
    config = DataConfig.model_validate({"dataset": dataset, **values})
    return open_data(config, dataset, root, CPU, 2, 0)


def colours(seed: int) -> np.ndarray:
    return np.stack([pattern(seed), pattern(seed + 1000), pattern(seed + 2000)], axis=-1)


def on(background: int, colour: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """Composited in exact arithmetic, rounded to the nearest."""
    share = alpha[..., None] / 255
    return np.rint(colour * share + background * (1 - share)).astype(np.uint8)


def gray_8(path: Path, seed: int) -> np.ndarray:
    Image.fromarray(pattern(seed)).save(path)
    return gray_rgb(pattern(seed))


def gray_16(path: Path, seed: int) -> np.ndarray:
    low = pattern(seed + 500).astype(np.uint16)
    Image.fromarray(pattern(seed).astype(np.uint16) * 256 + low).save(path)
    return gray_rgb(pattern(seed))


def colour_16(path: Path, seed: int) -> np.ndarray:
    write_png(path, colours(seed).astype(np.uint16) * 257, RGB)
    return colours(seed)


def gray_alpha_16(path: Path, seed: int) -> np.ndarray:
    gray, alpha = pattern(seed), pattern(seed + 1000)
    write_png(path, np.stack([gray, alpha], axis=-1).astype(np.uint16) * 257, GRAY_ALPHA)
    return on(255, gray_rgb(gray), alpha)


def colour_alpha_16(path: Path, seed: int) -> np.ndarray:
    write_png(path, np.dstack([colours(seed), pattern(seed + 7)]).astype(np.uint16) * 257, RGB_ALPHA)
    return on(255, colours(seed), pattern(seed + 7))


def drawn_in_alpha(path: Path, seed: int) -> np.ndarray:
    Image.fromarray(np.dstack([np.zeros((16, 16, 3), np.uint8), pattern(seed)])).save(path)
    return gray_rgb(255 - pattern(seed))


def transparent_gray_16(path: Path, seed: int) -> np.ndarray:
    write_png(path, pattern(seed)[..., None].astype(np.uint16) * 257, GRAY, transparent=b"\0\0")
    return gray_rgb(np.where(pattern(seed) == 0, 255, pattern(seed)).astype(np.uint8))


def transparent_colour_16(path: Path, seed: int) -> np.ndarray:
    found = colours(seed)
    found[3, 3] = found[9, 4] = 10, 20, 30
    write_png(path, found.astype(np.uint16) * 257, RGB, transparent=b"\x0a\x0a\x14\x14\x1e\x1e")
    return np.where((found == (10, 20, 30)).all(-1, keepdims=True), 255, found).astype(np.uint8)


def bits_1(path: Path, seed: int) -> np.ndarray:
    Image.fromarray(pattern(seed) > 127).save(path)
    return gray_rgb(np.where(pattern(seed) > 127, 255, 0).astype(np.uint8))


def palette(path: Path, seed: int) -> np.ndarray:
    image = Image.fromarray(pattern(seed) % 16, mode=None)
    table = np.random.default_rng(1).integers(0, 256, (16, 3), dtype=np.uint8)
    image.putpalette(table.tobytes())
    image.save(path)
    found: np.ndarray = table[pattern(seed) % 16]
    return found


def palette_with_transparency(path: Path, seed: int) -> np.ndarray:
    found = palette(path, seed)
    with Image.open(path) as image:
        image.save(path, transparency=bytes([0, 128]))
    alpha = np.array([0, 128] + [255] * 14, dtype=np.uint8)[pattern(seed) % 16]
    return on(255, found, alpha)


def cmyk(path: Path, seed: int) -> np.ndarray:
    image = Image.fromarray(np.dstack([colours(seed), pattern(seed + 5)]), mode=None).convert("RGBA")
    ink = Image.frombytes("CMYK", image.size, image.tobytes())
    ink.save(path)
    c, k = 255.0 - colours(seed), 255.0 - pattern(seed + 5)[..., None]
    found = np.asarray(ink.convert("RGB"))
    assert np.abs(found - c * k / 255).max() <= 1
    return found


def tiff_12(path: Path, seed: int) -> np.ndarray:
    values = pattern(seed).astype(np.uint16) * 16 + 5
    first, second = values[:, ::2], values[:, 1::2]
    packed = np.stack([first >> 4, (first & 15) << 4 | second >> 8, second & 255], axis=-1).astype(np.uint8)
    write_tiff(path, packed.reshape(16, 24), bits=12)
    return gray_rgb(pattern(seed))


def tiff_16_white_is_zero(path: Path, seed: int) -> np.ndarray:
    write_tiff(path, pattern(seed).astype(np.uint16) * 257, {262: (3, [0])})
    return gray_rgb(255 - pattern(seed))


def float_with_range(path: Path, seed: int) -> np.ndarray:
    write_tiff(path, (pattern(seed) / 127.5 - 1).astype(np.float32), FLOAT_RANGE)
    return gray_rgb(pattern(seed))


def unsigned_32_with_range(path: Path, seed: int) -> np.ndarray:
    write_tiff(path, pattern(seed).astype(np.uint32) * 2**24, {340: (4, [0]), 341: (4, [255 * 2**24])})
    return gray_rgb(pattern(seed))


def signed_16_with_range(path: Path, seed: int) -> np.ndarray:
    values = pattern(seed).astype(np.int16) - 128
    write_tiff(path, values, {340: (11, [-128.0]), 341: (11, [127.0])})
    return gray_rgb(pattern(seed))


def pgm_10(path: Path, seed: int) -> np.ndarray:
    values = pattern(seed).astype(">u2") * 4 + 3  # 255 * 4 + 3 = 1023, the most that is declared
    path.write_bytes(b"P5 16 16 1023\n" + values.astype(">u2").tobytes())
    return gray_rgb(pattern(seed))


def lossless(**options: Any) -> Kind:
    def save(path: Path, seed: int) -> np.ndarray:
        Image.fromarray(colours(seed)).save(path, **options)
        return colours(seed)

    return save


def as_pillow(mode: str, **options: Any) -> Kind:
    """Formats that lose something: what is stored is what Pillow reads."""

    def save(path: Path, seed: int) -> np.ndarray:
        image = Image.fromarray(colours(seed)).convert(mode)
        image.save(path, **options)
        with Image.open(path) as stored:
            return np.asarray(stored.convert("RGB"))

    return save


def jpeg_2000_16(path: Path, seed: int) -> np.ndarray:
    Image.fromarray(pattern(seed).astype(np.uint16) * 257).save(path, irreversible=False)
    return gray_rgb(pattern(seed))


def no_ending(path: Path, seed: int) -> np.ndarray:
    Image.fromarray(colours(seed)).save(path, format="PNG")
    return colours(seed)


KINDS: dict[str, tuple[Kind, str]] = {
    "gray, 8 bits": (gray_8, ".png"),
    "gray, 16 bits": (gray_16, ".png"),
    "colour, 16 bits": (colour_16, ".png"),
    "gray and alpha, 16 bits": (gray_alpha_16, ".png"),
    "colour and alpha, 16 bits": (colour_alpha_16, ".png"),
    "drawn in the alpha channel": (drawn_in_alpha, ".png"),
    "a transparent gray, 16 bits": (transparent_gray_16, ".png"),
    "a transparent colour, 16 bits": (transparent_colour_16, ".png"),
    "1 bit": (bits_1, ".png"),
    "palette": (palette, ".png"),
    "palette with transparency": (palette_with_transparency, ".png"),
    "CMYK": (cmyk, ".tif"),
    "TIFF, 12 bits": (tiff_12, ".tif"),
    "TIFF, 16 bits, white is zero": (tiff_16_white_is_zero, ".tiff"),
    "float, declared range": (float_with_range, ".tif"),
    "unsigned 32 bits, declared range": (unsigned_32_with_range, ".tif"),
    "signed 16 bits, declared range": (signed_16_with_range, ".tif"),
    "PGM of 1,024 grays": (pgm_10, ".pgm"),
    "JPEG": (as_pillow("RGB", quality=90), ".jpg"),
    "JPEG that is called .jfif": (as_pillow("RGB", format="JPEG"), ".jfif"),
    "JPEG of one channel": (as_pillow("L"), ".jpeg"),
    "JPEG in CMYK": (as_pillow("CMYK"), ".jpg"),
    "GIF": (as_pillow("P"), ".gif"),
    "JPEG 2000, 16 bits": (jpeg_2000_16, ".jp2"),
    "BMP": (lossless(), ".bmp"),
    "TGA": (lossless(), ".tga"),
    "WebP": (lossless(lossless=True), ".webp"),
    "a PNG that is called .data": (no_ending, ".data"),
    "no ending": (no_ending, ""),
    "capital letters": (lossless(), ".PNG"),
}


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_is_read_as_stored_whole_and_streamed(kind: str, tmp_path: Path) -> None:
    """Streamed images are cut and resized, so they are compared with those of plain RGB files of the same pixels."""
    save, ending = KINDS[kind]
    wanted: dict[int, np.ndarray] = {}

    def write(path: Path, seed: int) -> None:
        wanted[seed] = save(path, seed)

    tree(tmp_path / "kind", write, ending)
    tree(tmp_path / "plain", lambda path, seed: save_rgb(path, wanted[seed]))
    whole = open_tree(tmp_path / "kind", "image-folder")
    expected = torch.stack([torch.from_numpy(wanted[seed].copy()).permute(2, 0, 1) for seed in sorted(wanted)])
    assert torch.equal(torch.cat([whole.train.images, whole.test.images]), expected)  # type: ignore[attr-defined]
    assert not whole.contents.skipped
    kinds, plain = (open_tree(tmp_path / name, "imagenet", image_size=16) for name in ("kind", "plain"))
    for ours, theirs in (
        (kinds.train.batches(0), plain.train.batches(0)),
        (kinds.test.in_order(6), plain.test.in_order(6)),
    ):
        for (x, y), (u, v) in zip(ours, theirs, strict=True):
            assert torch.equal(x, u)
            assert torch.equal(y, v)


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
@pytest.mark.parametrize("background", BACKGROUNDS)
def test_alpha_is_composited_on_the_background_that_is_set(background: str, mode: str, tmp_path: Path) -> None:
    image = Image.fromarray(np.dstack([colours(1), pattern(2)])).convert(mode)
    image.save(tmp_path / "a.png")
    level = BACKGROUNDS[background]
    behind = Image.new("RGBA", image.size, (level, level, level, 255))
    theirs = np.asarray(Image.alpha_composite(behind, image.convert("RGBA")).convert("RGB")).astype(int)
    ours = decode(tmp_path / "a.png", background).pixels
    assert np.abs(ours - theirs).max() <= 1
    straight = np.asarray(image.convert("RGBA"))
    assert np.array_equal(ours, on(level, straight[..., :3], straight[..., 3]))


@pytest.mark.parametrize("ending", [".png", ".jpg", ".tif", ".webp"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(orientation: int, ending: str, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / f"turned{ending}"
    Image.fromarray(colours(3)[:, :10]).save(path, exif=exif)
    with Image.open(path) as image:
        upright = np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
    ours = decode(path, "white").pixels
    assert ours.shape[:2] == ((10, 16) if orientation > 4 else (16, 10))
    assert np.array_equal(ours, upright)


def test_a_broken_exif_block_spoils_no_image(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    Image.fromarray(colours(3)).save(path, exif=b"Exif\0\0II*\0\xff\xff\xff\xff")
    assert np.array_equal(decode(path, "white").pixels, colours(3))


def cut_off(path: Path) -> None:
    save_rgb(path, colours(0))
    path.write_bytes(path.read_bytes()[:300])


REFUSED: dict[str, tuple[Callable[[Path], object], str, str]] = {
    "float without range": (
        lambda p: write_tiff(p, np.ones((16, 16), np.float32)), ".tif", "floats and declares no range",
    ),
    "32 bits without range": (lambda p: write_tiff(p, np.ones((16, 16), np.uint32)), ".tif", "more than 16 bits"),
    "signed without range": (lambda p: write_tiff(p, np.ones((16, 16), np.int16)), ".tif", "or with a sign"),
    "PFM": (lambda p: p.write_bytes(b"Pf\n16 16\n-1.0\n" + b"\0" * 1024), ".pfm", "declares no range"),
    "NaN": (lambda p: write_tiff(p, np.full((16, 16), np.nan, np.float32), FLOAT_RANGE), ".tif", "outside it"),
    "out of range": (lambda p: write_tiff(p, np.full((16, 16), 1.5, np.float32), FLOAT_RANGE), ".tif", "outside it"),
    "empty range": (
        lambda p: write_tiff(p, np.ones((16, 16), np.float32), {340: (11, [1.0]), 341: (11, [1.0])}),
        ".tif", "is empty",
    ),
    "no image": (lambda p: p.write_bytes(b"not an image"), ".png", "no format that Pillow can decode"),
    "empty file": (lambda p: p.write_bytes(b""), ".jpg", "broken"),
    "cut off": (cut_off, ".png", "broken"),
    "a bomb": (lambda p: png_bomb(p, 50_000, 50_000), ".png", "declares 2,500,000,000"),
    "a smaller bomb": (
        lambda p: png_bomb(p, 10_000, 10_000), ".png", "at most 89,478,485 pixels.*declares 100,000,000",
    ),
    "a bomb without an ending": (lambda p: png_bomb(p, 50_000, 50_000), "", "declares 2,500,000,000"),
}  # fmt: skip


@pytest.mark.parametrize(("dataset", "workers"), [("image-folder", 0), ("imagenet", 0), ("imagenet", 2)])
@pytest.mark.parametrize("what", REFUSED)
def test_an_image_that_means_nothing_is_refused_by_name(what: str, dataset: str, workers: int, tmp_path: Path) -> None:
    """Held whole and streamed, by the process itself and by one of its workers: one sentence that names the file
    once."""
    write, ending, words = REFUSED[what]
    rgb_tree(tmp_path / "tree")
    spoilt = tmp_path / "tree" / "test" / "bee" / f"spoilt{ending}"
    write(spoilt)
    config = DataConfig(dataset=dataset, image_size=16)  # type: ignore[arg-type]
    with pytest.raises(UserError, match=words) as caught:
        list(open_data(config, dataset, tmp_path / "tree", CPU, 2, 0, workers=workers).test.in_order(2))
    sentence = str(caught.value)
    assert sentence.count("spoilt") == 1
    assert repr(str(spoilt)) in sentence
    assert "\n" not in sentence


@pytest.mark.parametrize("dataset", ["image-folder", "imagenet"])
def test_files_that_declare_different_ranges_are_refused(dataset: str, tmp_path: Path) -> None:
    tree(tmp_path / "tree", float_with_range, ".tif")
    other = tmp_path / "tree" / "train" / "bee" / "005.tif"
    write_tiff(other, np.ones((16, 16), np.float32), {340: (11, [0.0]), 341: (11, [1.0])})
    with pytest.raises(UserError, match=r"005\.tif.*000\.tif declares, -1 to 1.*declares 0 to 1"):
        open_tree(tmp_path / "tree", dataset, image_size=16)


@pytest.mark.parametrize("dataset", ["image-folder", "imagenet"])
@pytest.mark.parametrize("level", [0, 137])
def test_a_set_of_equal_images_is_refused(level: int, dataset: str, tmp_path: Path) -> None:
    """All pixels alike but for a little noise, as of pictures whose values were cut off."""

    def save(path: Path, seed: int) -> None:
        save_rgb(path, np.where(gray_rgb(pattern(seed)) > 253, level + 1, level).astype(np.uint8))

    tree(tmp_path / "tree", save)
    with pytest.raises(UserError, match=rf"nearly\) all equal.*which is {level}"):
        open_tree(tmp_path / "tree", dataset, image_size=16)


def test_the_first_of_several_pictures_is_read_and_said(tmp_path: Path) -> None:
    def save(path: Path, seed: int) -> None:
        first, second = (Image.fromarray(pattern(seed + at)) for at in (0, 1000))
        first.save(path, save_all=True, append_images=[second])

    tree(tmp_path / "tree", save, ".tif", train=2, test=1)
    data = open_tree(tmp_path / "tree", "image-folder")
    assert np.array_equal(data.train.images[0, 0].numpy(), pattern(0))  # type: ignore[attr-defined]
    assert "data: 6 of the files hold several pictures, of which the first is read" in data.contents.lines()
