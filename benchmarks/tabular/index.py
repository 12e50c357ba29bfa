"""The compact index: a whole benchmark in one small Parquet file. No torch.

Rows are the architectures held, columns those of `benchmarks.tabular.table`; provenance (source, hash, package,
version) stands in the file's metadata. Look-ups then need neither the gigabytes nor the minutes of the official files.
"""

import contextlib
import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.tabular.parquet_bounds import require_bounded
from benchmarks.tabular.space import SIZE, Ints, official_archs
from benchmarks.tabular.table import COLUMN, BenchmarkTable, Floats
from cscdarts.errors import BrokenFile, CannotWrite, MissingFile, UserError

#: Raise when the meaning of an index file changes.
INDEX_SCHEMA = 1
_METADATA = b"cscdarts.index"


def write_index(table: BenchmarkTable, path: Path) -> None:
    """Write a table as an index file (zstd-compressed Parquet, float64), by temporary name and rename.

    Errors:
        UserError: the place cannot be written.
    """
    import pyarrow as pa

    rows = np.flatnonzero(table.held)
    archs = official_archs()
    arrays: dict[str, Any] = {"index": pa.array(rows.astype(np.int32)), "arch_str": pa.array([archs[i] for i in rows])}
    for name, values in table.columns.items():
        # NaN means "the benchmark has none": a null, so that no reader takes it for a number.
        arrays[name] = pa.array(values[rows], from_pandas=True)
    write_columns(arrays, {"schema": INDEX_SCHEMA, "provenance": dict(table.provenance)}, path)


def read_index(path: Path) -> BenchmarkTable:
    """Read an index file.

    Errors:
        UserError: missing, broken, no index of ours, or of another space.
    """
    allowed = "an index file that `cscdarts benchmark index` wrote"
    if not path.is_file():
        raise MissingFile(path, "Make it from the official files: cscdarts benchmark index.")
    broken = BrokenFile(
        path, "it is broken or of another kind", allowed, "Make it again with cscdarts benchmark index."
    )
    try:
        values, stamp = read_columns(path, texts=("arch_str",))
        rows, names = values.pop("index").astype(np.int64), stamp.pop("arch_str")
        schema, provenance = stamp["schema"], dict(stamp["provenance"])
    except (UserError, KeyError, TypeError, ValueError, RecursionError):
        raise broken from None
    if schema != INDEX_SCHEMA:
        raise UserError("--benchmark", f"index:{path}", f"an index of schema {INDEX_SCHEMA}", "Make it again.")
    archs = official_archs()
    if (
        len(rows) == 0
        or rows.min() < 0
        or rows.max() >= SIZE
        or len(np.unique(rows)) != len(rows)
        or names != [archs[i] for i in rows.tolist()]
    ):
        raise UserError(
            "--benchmark",
            f"index:{path}",
            "an index of the NAS-Bench-201 space in official numbering",
            "Make it again.",
        )
    columns = {name: _spread(rows, column) for name, column in values.items() if COLUMN.fullmatch(name)}
    return BenchmarkTable(columns, provenance)


def write_columns(columns: Mapping[str, Any], stamp: Mapping[str, Any], path: Path) -> None:
    """Write Arrow arrays and a stamp of plain data as zstd-compressed Parquet, by temporary name and rename.

    Errors:
        UserError: the place cannot be written.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    content = pa.table(dict(columns)).replace_schema_metadata({_METADATA: json.dumps(stamp, sort_keys=True).encode()})
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(content, temporary, compression="zstd", compression_level=19)
        temporary.replace(path)
    except OSError as error:
        raise CannotWrite("--out", str(path), error) from None
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def read_columns(path: Path, texts: Collection[str] = ()) -> tuple[dict[str, Floats], dict[str, Any]]:
    """The numeric columns of such a file and its stamp, into which columns of texts are put as lists.

    Errors:
        UserError: the file is missing, broken or not of ours.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        # ParquetFile and plain buffers, because read_table and to_numpy would import pandas: 80 MiB and 0.3 s.
        # Texts as references into a list of theirs: written out, a long one in every row would be gigabytes.
        with pq.ParquetFile(path, memory_map=True, read_dictionary=list(texts)) as file:
            require_bounded(path, file.metadata)
            if not all(field.name in texts or str(field.type) in _KINDS for field in file.schema_arrow):
                raise KeyError("a column that is no number")
            content = file.read(use_threads=False)
        stamp = dict(json.loads((content.schema.metadata or {})[_METADATA]))
        stamp |= {name: _texts(content[name]) for name in texts}
        return {name: _numbers(content[name]) for name in content.column_names if name not in texts}, stamp
    except (pa.ArrowException, OSError, KeyError, ValueError, TypeError, AttributeError, RecursionError):
        raise BrokenFile(
            path, "it is broken", "a Parquet file that cscdarts wrote", "Make it or install it again."
        ) from None


#: Arrow's number types -> NumPy's.
_KINDS = {"double": "f8", "float": "f4", "int32": "i4", "int16": "i2"}


def _texts(column: Any) -> list[str | None]:
    """An Arrow column of texts as a list; equal texts are one object."""
    found: list[str | None] = []
    for part in column.chunks:
        words = part.dictionary.to_pylist()
        found += [None if place is None else words[place] for place in part.indices.to_pylist()]
    return found


def _numbers(column: Any) -> Floats:
    """An Arrow column of numbers as float64, nulls as NaN."""
    array = column.combine_chunks()
    array = array.chunk(0) if hasattr(array, "chunk") else array
    validity, data = array.buffers()
    kind = np.dtype(_KINDS[str(array.type)])
    values = np.frombuffer(data, dtype=kind)[array.offset : array.offset + len(array)].astype(np.float64)
    if validity is not None:
        bits = np.unpackbits(np.frombuffer(validity, dtype=np.uint8), bitorder="little")
        values[bits[array.offset : array.offset + len(array)] == 0] = np.nan
    return values


def _spread(rows: Ints, values: Floats) -> Floats:
    """Values of some official indices as an array over all of them."""
    out = np.full(SIZE, np.nan)
    out[rows] = values
    return out
