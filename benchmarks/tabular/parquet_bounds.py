"""What a Parquet file would unpack to, read from its own headers before anything is unpacked.

A few kilobytes of Parquet can announce pages of gigabytes, and its table of contents may say less than the pages do. So
both are read: the contents through Arrow, and the head of each page by hand (Thrift's compact protocol), of which only
the sizes count.
"""

from pathlib import Path
from typing import Any

from cscdarts.errors import BrokenFile

#: Bounds far beyond any benchmark's: rows, columns, and bytes unpacked, of the whole file and of a page's head.
MOST_ROWS, MOST_COLUMNS, MOST_BYTES, LONGEST_HEAD = 2**20, 2000, 2**29, 2**16
_STOP, _TRUE, _FALSE, _BYTE, _I16, _I32, _I64, _DOUBLE, _BINARY, _LIST, _SET, _MAP, _STRUCT = range(13)


def require_bounded(path: Path, metadata: Any) -> None:
    """Refuse a file that would unpack to more than a benchmark has.

    Args:
        metadata: Arrow's `FileMetaData` of it.

    Errors:
        BrokenFile: it would, by its contents or by a page's head, or a head cannot be read.
    """
    if not 0 <= metadata.num_rows <= MOST_ROWS or metadata.num_columns > MOST_COLUMNS:
        raise _refused(path, f"it has {metadata.num_rows:,} rows and {metadata.num_columns:,} columns")
    parts = [metadata.row_group(number) for number in range(metadata.num_row_groups)]
    total = 0
    with path.open("rb") as file:
        for column in (part.column(number) for part in parts for number in range(metadata.num_columns)):
            starts = [column.data_page_offset]
            if column.has_dictionary_page and column.dictionary_page_offset:
                starts.append(column.dictionary_page_offset)
            at, end = min(starts), min(starts) + column.total_compressed_size
            while at < end:
                file.seek(at)
                unpacked, packed, head = _page(path, file.read(LONGEST_HEAD))
                total += unpacked
                if unpacked < 0 or packed < 0 or total > MOST_BYTES:
                    raise _refused(path, f"it unpacks to more than {MOST_BYTES:,} bytes")
                at += head + packed


def _page(path: Path, data: bytes) -> tuple[int, int, int]:
    """Bytes of a page unpacked and packed, and of its head."""
    head = _Compact(data)
    try:
        sizes = head.struct()
        return int(sizes[2]), int(sizes[3]), head.at
    except (IndexError, KeyError, ValueError):
        raise _refused(path, "a page has no head") from None


class _Compact:
    """A reader of Thrift's compact protocol that keeps the whole numbers of the outermost structure."""

    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 0

    def number(self) -> int:
        """An unsigned number of variable length."""
        value = shift = 0
        while True:
            byte = self.data[self.at]
            self.at += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value
            if shift > 63:
                raise ValueError(shift)

    def signed(self) -> int:
        """A number in zigzag form."""
        value = self.number()
        return (value >> 1) ^ -(value & 1)

    def struct(self, depth: int = 0) -> dict[int, int]:
        """Field -> value of its whole numbers; all other fields are passed over."""
        if depth > 8:
            raise ValueError(depth)
        found: dict[int, int] = {}
        field = 0
        while True:
            head = self.data[self.at]
            self.at += 1
            kind = head & 0x0F
            if kind == _STOP:
                return found
            field = field + (head >> 4) if head >> 4 else self.signed()
            if kind in (_I16, _I32, _I64):
                found[field] = self.signed()
            elif kind not in (_TRUE, _FALSE):
                self._skip(kind, depth)

    def _skip(self, kind: int, depth: int) -> None:
        if kind in (_TRUE, _FALSE, _BYTE):
            self.at += 1
        elif kind in (_I16, _I32, _I64):
            self.number()
        elif kind == _DOUBLE:
            self.at += 8
        elif kind == _BINARY:
            length = self.number()
            self.at += length
        elif kind in (_LIST, _SET):
            head = self.data[self.at]
            self.at += 1
            count = head >> 4 if head >> 4 < 15 else self.number()
            for _ in range(min(count, LONGEST_HEAD + 1)):
                self._skip(head & 0x0F, depth + 1)
        elif kind == _STRUCT:
            self.struct(depth + 1)
        else:
            raise ValueError(kind)


def _refused(path: Path, reason: str) -> BrokenFile:
    return BrokenFile(path, reason, "a Parquet file of a benchmark's size", "Make it again or install it again.")
