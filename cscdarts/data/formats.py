"""Which files are images: what Pillow decodes, told by a file's ending or by its first bytes. No torch."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL import Image as PILImage

#: Formats that Pillow only recognises, or decodes by starting another program.
_NOT_DECODED = frozenset({"BUFR", "EPS", "GRIB", "HDF5", "IPTC", "MPEG", "WMF"})


def is_image(path: Path) -> bool:
    """Whether a regular file is an image: its ending stands for a format that Pillow decodes, or its first bytes are of
    one.

    A file with such an ending that is broken counts as an image, so that it is refused by name and not passed over.
    """
    if path.suffix.lower() in _endings():
        return True
    from PIL import Image

    try:
        with opened(path):
            return True
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        return True  # refused by name when it is decoded
    except Exception:
        return False


@contextmanager
def opened(path: Path) -> "Iterator[PILImage.Image]":
    """Pillow's image of a file, not decoded yet.

    Formats without a signature, which take almost any file for an image, are tried only where the ending says so.
    Pillow's warnings are passed over, except that of an image with too many pixels, which is raised.
    """
    from PIL import Image

    unsigned = _endings().get(path.suffix.lower())
    formats = _signed() if unsigned is None or unsigned in _signed() else (*_signed(), unsigned)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        with Image.open(path, formats=formats) as image:
            yield image


@lru_cache(maxsize=1)
def _endings() -> dict[str, str]:
    """Ending in lower case -> format, of the formats that Pillow decodes by itself here."""
    from PIL import Image

    known = Image.registered_extensions().items()
    return {ending: name for ending, name in known if name in Image.OPEN and name not in _NOT_DECODED}


@lru_cache(maxsize=1)
def _signed() -> tuple[str, ...]:
    """Formats that are told by their first bytes, in Pillow's order: the frequent ones first."""
    from PIL import Image

    Image.init()
    return tuple(name for name in Image.ID if name not in _NOT_DECODED and Image.OPEN[name][1] is not None)
