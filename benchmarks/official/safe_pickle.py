"""Opens the official archives' pickles as plain data: numbers, texts, containers and NumPy scalars, nothing that runs.

The archives are pickles, and a pickle is a program. The official packages run it (`pickle.load`); here every global
beyond the three that the archives need is refused before anything is called, and those three are replaced by functions
of our own that can build nothing but a number or a dictionary.
"""

import bz2
import io
import pickle
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import numpy as np

from benchmarks.official.pickle_bounds import PickleBounds, TooMuch
from benchmarks.tabular.files import plain_size
from cscdarts.errors import BrokenFile, MissingFile, UserError

#: Unpacked bytes above which a file is taken for a decompression bomb: one record is about 0.4 MB, the whole archive
#: 6 GB.
RECORD_LIMIT = 64 * 2**20
ARCHIVE_LIMIT = 12 * 2**30
#: Bytes that may be made in memory: for any file, and more by its size.
MADE_FLOOR, MADE_PER_BYTE = 64 * 2**20, 400
#: Bytes unpacked at a time.
PIECE = 2**16


class RefusedGlobal(pickle.UnpicklingError):
    """A pickle asked for something that is not on the allow-list."""


class _ScalarType:
    """Stands in for `numpy.dtype` while unpickling: remembers code and byte order, accepts only plain numbers."""

    def __init__(self, code: str, *_: object) -> None:
        if not isinstance(code, str) or code not in {"f8", "f4", "f2", "i8", "i4", "i2", "i1", "u8", "u4", "b1"}:
            raise RefusedGlobal(f"numpy.dtype({code!r})")
        self.code, self.order = code, "="

    def __setstate__(self, state: tuple[object, ...]) -> None:
        order = state[1] if len(state) > 1 else "="
        self.order = order if order in ("<", ">", "=") else "="


def _scalar(kind: _ScalarType, data: bytes) -> Any:
    """Stands in for `numpy.core.multiarray.scalar`."""
    if not isinstance(kind, _ScalarType) or not isinstance(data, bytes):
        raise RefusedGlobal("numpy.core.multiarray.scalar of something else than a number")
    return np.frombuffer(data, dtype=np.dtype(kind.order + kind.code), count=1)[0]


_ALLOWED: dict[tuple[str, str], Callable[..., Any]] = {
    ("collections", "OrderedDict"): OrderedDict,
    ("numpy", "dtype"): _ScalarType,
    ("numpy.core.multiarray", "scalar"): _scalar,
    ("numpy._core.multiarray", "scalar"): _scalar,
}


class _PlainUnpickler(pickle.Unpickler):
    def find_class(self, module_name: str, global_name: str) -> Any:
        try:
            return _ALLOWED[module_name, global_name]
        except KeyError:
            raise RefusedGlobal(f"{module_name}.{global_name}") from None

    def persistent_load(self, pid: Any) -> Any:
        raise RefusedGlobal("a persistent object")


class _Bounded(io.RawIOBase):
    """A readable stream that ends with an error once it has given, or its pickle would make, too many bytes."""

    def __init__(self, stream: IO[bytes], limit: int, bounds: PickleBounds) -> None:
        self._stream, self._left, self._bounds = stream, limit, bounds

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        # Never more than a piece at once, however much the unpickler asks for.
        piece = self._stream.read(min(len(buffer), PIECE))
        self._left -= len(piece)
        if self._left < 0:
            raise TooMuch("more data than such a file can hold")
        if not self._bounds.ended:
            self._bounds.feed(piece)
        buffer[: len(piece)] = piece
        return len(piece)


def made_limit(size: int) -> int:
    """Bytes that a file of some size may make: each record some 8 MB of 85 kB, and a small file a whole record."""
    return MADE_FLOOR + MADE_PER_BYTE * size


def read_plain_pickle(path: Path, limit: int = RECORD_LIMIT, packed: bool = True) -> Any:
    """The plain data of a pickle, bzip2-compressed or not.

    Args:
        limit: refuse a file that unpacks to more bytes than this; what it makes of them is bounded by its size.
        packed: whether it is bzip2-compressed, as the official archives are.

    Errors:
        UserError: missing, truncated, no bzip2, no pickle, too large or too deep, or it asks for anything but numbers,
            texts and containers (which is what a malicious pickle does); nothing in it has been run then.
    """
    kind = "a bzip2-compressed pickle" if packed else "a pickle"
    allowed = f"{kind} of plain numbers and texts, as the official archives are"
    again = "Download it again from the project page."
    try:
        size = plain_size(path)
        bounds = PickleBounds(made_limit(size), size)
        with (
            bz2.BZ2File(path, "rb") if packed else path.open("rb") as stream,
            io.BufferedReader(_Bounded(stream, limit, bounds), PIECE) as bounded,
        ):
            return _PlainUnpickler(bounded).load()
    except FileNotFoundError:
        raise MissingFile(str(path), "Check the path after --benchmark.") from None
    except (RefusedGlobal, TooMuch) as error:
        fix = "Nothing in it was run; do not open it with another program, and take the archive from the project page."
        raise BrokenFile(path, f"it asks for {error}", allowed, fix) from None
    except EOFError:
        raise BrokenFile(path, "it ends too early", allowed, again) from None
    except UserError:
        raise
    except Exception as error:  # a damaged pickle can raise nearly anything from the virtual machine
        reason = str(error).splitlines()[0][:80] if str(error) else type(error).__name__
        raise BrokenFile(path, reason, allowed, again) from None
