"""One image file as 8-bit RGB, the same for sets held whole and for streamed ones. No torch until an image is resized.

| stored as | read as |
|---|---|
| 1 to 8 bits per channel; palette; CMYK, YCbCr, HSV | RGB as Pillow converts it |
| 9 to 16 bits per channel | the upper 8 bits, as Pillow reads 16-bit colour |
| 32-bit integers, signed integers, floats | scaled from the range that the file declares; without one refused |
| alpha, or a transparent colour | composited on `data.background` |

The EXIF orientation is applied. Of a file that holds several pictures the first is read.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cscdarts.data.formats import opened
from cscdarts.errors import UserError
from cscdarts.settings.config import DataConfig

if TYPE_CHECKING:
    from PIL import Image as PILImage
    from torch import Tensor

#: `data.background` -> its gray level.
BACKGROUNDS = {"white": 255, "gray": 128, "black": 0}

_ORIENTATION = 0x0112
_PHOTOMETRIC, _BITS, _SAMPLE_FORMAT = 262, 258, 339
#: TIFF's SMinSampleValue and SMaxSampleValue, and the older pair for unsigned samples.
_RANGES = ((340, 341), (280, 281))


@dataclass(frozen=True)
class Picture:
    """A decoded image.

    Attributes:
        pixels: (h, w, 3) uint8.
        value_range: lowest and highest value that the file declares, where that gave the scale; None otherwise.
        several: whether the file holds further pictures.
    """

    pixels: np.ndarray
    value_range: tuple[float, float] | None = None
    several: bool = False


def read_image(path: Path, config: DataConfig) -> "Tensor":
    """One image as (3, h, w) uint8, made square where `data.square` is `crop` or `pad`.

    Errors:
        UserError: see `decode`.
    """
    return channels_first(squared(decode(path, config.background).pixels, config))


def decode(path: Path, background: str) -> Picture:
    """Read an image file.

    Errors:
        UserError: the file is broken, declares too many pixels, or holds values without a declared range.
    """
    from PIL import Image

    def refuse(allowed: str, fix: str) -> UserError:
        return UserError("--data-root", str(path), allowed, fix)

    try:
        with opened(path) as image:
            several = bool(getattr(image, "is_animated", False))
            image.load()
            pixels, value_range = _rgb(image, BACKGROUNDS[background])
            return Picture(_upright(pixels, image), value_range, several)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        declared = re.search(r"\((\d+) pixels\)", str(error))
        count = f"{int(declared[1]):,}" if declared else "more"
        limit = Image.MAX_IMAGE_PIXELS or 0
        raise refuse(
            f"an image of at most {limit:,} pixels", f"It declares {count}; scale it down or remove it."
        ) from error
    except _NoMeaning as error:
        raise refuse("an image whose values have a declared meaning", str(error)) from error
    except MemoryError as error:
        raise refuse("an image that fits in memory", "Scale it down or remove it.") from error
    except PermissionError as error:
        raise refuse("a readable image", "There is no permission to read it; grant it or remove the file.") from error
    except Exception as error:
        # Decoders of broken files raise whatever their parsing ends in: OSError, SyntaxError, struct.error and more.
        raise refuse("a readable image", f"The file is broken ({_reason(error)}); repair or remove it.") from error


def squared(pixels: np.ndarray, config: DataConfig) -> np.ndarray:
    """Cut the middle out of an oblong image (`crop`) or widen it by the background (`pad`); `squeeze` leaves it to the
    resizing.

    Args:
        pixels: (h, w, 3) uint8.
    """
    h, w = pixels.shape[:2]
    if config.square == "squeeze" or h == w:
        return pixels
    if config.square == "crop":
        side = min(h, w)
        top, left = (h - side) // 2, (w - side) // 2
        return pixels[top : top + side, left : left + side]
    side = max(h, w)
    wide = np.full((side, side, 3), BACKGROUNDS[config.background], dtype=np.uint8)
    top, left = (side - h) // 2, (side - w) // 2
    wide[top : top + h, left : left + w] = pixels
    return wide


def channels_first(pixels: np.ndarray) -> "Tensor":
    """(h, w, 3) uint8 as a tensor (3, h, w)."""
    import torch

    return torch.from_numpy(np.array(pixels)).permute(2, 0, 1)


def resized(images: "Tensor", size: int) -> "Tensor":
    """Images (n, c, h, w) resized to (n, c, size, size), antialiased; oblong ones are squeezed."""
    from torchvision.transforms.v2 import functional as V

    out: Tensor = V.resize(images, [size, size], antialias=True)
    return out


def require_one_range(first: tuple[float, float], where: Path, value_range: tuple[float, float], path: Path) -> None:
    """Refuse a file that declares another range than the first one: one value would be two grays.

    Errors:
        UserError: as said.
    """
    if value_range != first:
        raise UserError(
            "--data-root",
            str(path),
            f"the range of values that {where.name} declares, {first[0]:g} to {first[1]:g}",
            f"This file declares {value_range[0]:g} to {value_range[1]:g}; save all with one range.",
        )


class _NoMeaning(Exception):
    """Values that nothing says the black and the white of."""


def _rgb(image: "PILImage.Image", background: int) -> tuple[np.ndarray, tuple[float, float] | None]:
    """(h, w, 3) uint8 on the background, and the declared range if that gave the scale."""
    from PIL import Image

    if image.mode.startswith("I;16") or (image.mode == "I" and image.format in ("PNG", "PPM")):
        # Both formats stretch what they store to 16 bits.
        values = np.asarray(image).astype(np.int64)
        gray = values >> (_tiff(image, _BITS, 16) - 8)
        if _tiff(image, _PHOTOMETRIC, 1) == 0:  # WhiteIsZero, which Pillow undoes up to 8 bits only
            gray = 255 - gray
        seen = values != image.info["transparency"] if "transparency" in image.info else True
        return _gray(np.where(seen, gray, background)), None
    if image.mode in ("I", "F"):
        return _by_declared_range(image)
    if not image.has_transparency_data:
        return np.asarray(image.convert("RGB")), None
    transparent = image.info.get("transparency")
    if image.mode == "RGB" and isinstance(transparent, tuple) and max(transparent) > 255:
        image.info["transparency"] = tuple(
            value >> 8 for value in transparent
        )  # given in 16 bits, as the file has them
    premultiplied = {"La": "LA", "RGBa": "RGBA"}
    straight: Image.Image = image.convert(premultiplied[image.mode]) if image.mode in premultiplied else image
    rgba = np.asarray(straight.convert("RGBA")).astype(np.int64)
    colour, alpha = rgba[..., :3], rgba[..., 3:]
    return ((colour * alpha + background * (255 - alpha) + 127) // 255).astype(np.uint8), None


def _by_declared_range(image: "PILImage.Image") -> tuple[np.ndarray, tuple[float, float]]:
    """Values of 32 bits, signed ones and floats, scaled from the range that TIFF tags declare."""
    values = np.asarray(image)
    kind = "floats" if image.mode == "F" else "integers of more than 16 bits or with a sign"
    if image.mode == "I" and _tiff(image, _SAMPLE_FORMAT, 1) == 1:
        values = values.view(np.uint32)
    values = values.astype(np.float64)
    bounds = next((b for b in ([_tiff(image, tag, None) for tag in pair] for pair in _RANGES) if None not in b), None)
    if bounds is None:
        raise _NoMeaning(
            f"It holds {kind} and declares no range; save it with 8 or 16 bits, or as TIFF with SMinSampleValue and "
            "SMaxSampleValue."
        )
    low, high = float(bounds[0]), float(bounds[1])
    if not low < high:
        raise _NoMeaning(f"It declares the range {low:g} to {high:g}, which is empty; correct it.")
    if not bool(np.all((values >= low) & (values <= high))):  # false for NaN too
        raise _NoMeaning(f"It declares the range {low:g} to {high:g} and holds values outside it; correct it.")
    gray = np.rint((values - low) / (high - low) * 255)
    return _gray(255 - gray if _tiff(image, _PHOTOMETRIC, 1) == 0 else gray), (low, high)


def _tiff(image: "PILImage.Image", tag: int, default: Any) -> Any:
    """A tag of a TIFF file as one value; the default where it is absent or the file is no TIFF."""
    value = getattr(image, "tag_v2", {}).get(tag, default)
    return value[0] if isinstance(value, tuple) and value else value


def _gray(values: np.ndarray) -> np.ndarray:
    return np.repeat(values.astype(np.uint8)[..., None], 3, axis=2)


def _upright(pixels: np.ndarray, image: "PILImage.Image") -> np.ndarray:
    """Turn the image as its EXIF orientation says (2 to 8; TIFF files are turned by Pillow as they are loaded)."""
    try:
        orientation = image.getexif().get(_ORIENTATION, 1)
    except Exception:  # a broken EXIF block is no broken picture
        return pixels
    if orientation in (5, 7):
        pixels = pixels.swapaxes(0, 1)
    turned: np.ndarray = {
        2: lambda a: a[:, ::-1],
        3: lambda a: a[::-1, ::-1],
        4: lambda a: a[::-1],
        6: lambda a: np.rot90(a, -1),
        7: lambda a: a[::-1, ::-1],
        8: lambda a: np.rot90(a, 1),
    }.get(orientation, lambda a: a)(pixels)
    return turned


def _reason(error: Exception) -> str:
    """Why Pillow could not read a file, without the file's name, which the sentence has already."""
    from PIL import UnidentifiedImageError

    if isinstance(error, UnidentifiedImageError):
        return "no format that Pillow can decode"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
