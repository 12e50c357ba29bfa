"""NAS-Bench-201 through the official `nas_201_api`, unmodified; its `.pth` is loaded with an allow-list.

The package calls `torch.load` without arguments, which current PyTorch refuses because the file holds NumPy scalars,
and which older PyTorch ran as a program. Here the file is loaded with `weights_only=True` and the few NumPy globals it
needs.
"""

import warnings
import zipfile
from collections import OrderedDict
from functools import cached_property
from importlib import metadata
from pathlib import Path
from typing import IO, Any

import numpy as np

from benchmarks.official.api import OfficialBenchmark
from benchmarks.official.archives import checked_record, missing, wrong_content
from benchmarks.official.pickle_bounds import PickleBounds, TooMuch
from benchmarks.official.safe_pickle import MADE_FLOOR
from benchmarks.tabular.files import checksum, plain_size
from benchmarks.tabular.space import require_official_order
from cscdarts.errors import BrokenFile, UserError

#: Bytes that each byte of a file may make in memory beyond the floor: records take some 16.
MADE_PER_PLAIN_BYTE = 64


class NasBench201(OfficialBenchmark):
    """A NAS-Bench-201 `.pth` file behind the official API.

    Args:
        path: `NAS-Bench-201-v1_1-096897.pth` or `-v1_0-e61699.pth`.

    Errors:
        UserError: nothing there, a broken or malicious file, or another space.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        if not self.path.is_file():
            raise missing("nasbench201", self.path)
        content = load_plain_pth(self.path)
        if not isinstance(content, dict) or not {"meta_archs", "arch2infos", "evaluated_indexes"} <= set(content):
            raise wrong_content(self.path, "no list of architectures", "a NAS-Bench-201 archive")
        require_official_order(list(content["meta_archs"]), f"--benchmark nasbench201:{self.path}")
        self._content = dict(content["arch2infos"])
        from nas_201_api import NASBench201API

        # Given whole, the content would be deep-copied twice; records are handed over one by one when asked for.
        self.api = NASBench201API(
            {"meta_archs": list(content["meta_archs"]), "arch2infos": {}, "evaluated_indexes": []}, verbose=False
        )
        self.provenance = {
            "kind": "nasbench201",
            "name": "NAS-Bench-201",
            "source": self.path.name,
            "package": f"nas-bench-201 {metadata.version('nas-bench-201')}",
            **checksum(self.path),
        }

    @cached_property
    def held(self) -> tuple[int, ...]:
        return tuple(sorted(int(index) for index in self._content))

    def _prepare(self, index: int) -> None:
        if index in self.api.arch2infos_dict:
            return
        from nas_201_api import ArchResults

        raw = self._content[index]
        if not isinstance(raw, dict) or not {"less", "full"} <= set(raw):
            raise wrong_content(self.path, f"no lengths less and full at index {index}", "a NAS-Bench-201 archive")
        # "less" are the 12-epoch trainings, "full" the 200-epoch ones.
        record = checked_record({"12": raw["less"], "200": raw["full"]}, self.path)
        for state in record.values():
            if state["arch_str"] != self.api.arch(index):
                raise wrong_content(self.path, f"another cell at index {index}", "records in official order")
        self.api.arch2infos_dict[index] = OrderedDict(
            (length, ArchResults.create_from_state_dict(state)) for length, state in record.items()
        )
        self.api.evaluated_indexes = sorted({*self.api.evaluated_indexes, index})


def load_plain_pth(path: Path) -> Any:
    """The content of a `torch.save` file, loaded with `weights_only=True` and NumPy scalars allowed.

    Errors:
        UserError: truncated, no such file, or it asks for another global; nothing in it has been run then.
    """
    import torch

    scalar = np._core.multiarray.scalar  # type: ignore[attr-defined]
    allowed: list[Any] = [
        (scalar, "numpy.core.multiarray.scalar"),
        (scalar, "numpy._core.multiarray.scalar"),
        np.dtype,
        *(type(np.dtype(code)) for code in ("f8", "f4", "i8", "i4", "b1")),
    ]
    wanted = "a file that torch.save wrote with plain numbers and texts, as the official archive is"
    try:
        _require_bounded(path)
        with torch.serialization.safe_globals(allowed), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return torch.load(path, map_location="cpu", weights_only=True)
    except UserError:
        raise
    except TooMuch as error:
        fix = "Nothing in it was run; take the archive from the project page."
        raise BrokenFile(path, f"it asks for {error}", wanted, fix) from None
    except Exception as error:  # a damaged file can raise nearly anything
        text = str(error)
        if "Unsupported" in text or "GLOBAL" in text or "not an allowed global" in text:
            reason = "asks for more than plain data"
            fix = "Nothing in it was run; take the archive from the project page."
        else:
            reason = "is broken or ends too early"
            fix = "Download it again from the project page."
        raise BrokenFile(path, f"it {reason}", wanted, fix) from None


def _require_bounded(path: Path) -> None:
    """Read the file's pickles along, so that torch makes no more of them than a file of this size has.

    Errors:
        TooMuch: it would, or parts of it are compressed, which `torch.save` never does.
        BrokenFile: it is no plain file.
    """
    size = plain_size(path)
    left = MADE_FLOOR + MADE_PER_PLAIN_BYTE * size
    with path.open("rb") as file:
        if file.read(4) != b"PK\x03\x04":
            file.seek(0)
            # The older form: a number, a version, the machine, the content, names of tensors, then their bytes.
            rest = b""
            for part in range(5):
                # The first is one number, of ten bytes.
                bounds = PickleBounds(left, size, persistent=True, number=9 if part else 10)
                left, rest = _read_along(bounds, file, rest)
            return
        with zipfile.ZipFile(file) as parts:
            listed = parts.infolist()
            if (
                any(part.compress_type != zipfile.ZIP_STORED for part in listed)
                or sum(p.file_size for p in listed) > size
            ):
                raise TooMuch("more data than it has")
            for entry in listed:
                if entry.filename.endswith(".pkl"):
                    with parts.open(entry) as stream:
                        left, _ = _read_along(PickleBounds(left, size, persistent=True), stream, b"")


def _read_along(bounds: PickleBounds, stream: IO[bytes], rest: bytes) -> tuple[int, bytes]:
    """Feed one pickle; returns the bytes that may still be made, and what was read beyond its end."""
    while not bounds.ended:
        piece = rest or stream.read(2**20)
        if not piece:
            break  # cut off: torch says so
        used = bounds.feed(piece)
        rest = piece[used:]
    return bounds.left, rest
