"""NATS-Bench through the official `nats_bench`, unmodified; its files are opened without running them.

Topology space (tss) and, for cost queries, size space (sss); the folder form (`*-simple/`, one file per architecture,
read when asked for) and the single-file form (`*.pickle.pbz2`).
"""

import re
from collections import OrderedDict
from functools import cached_property
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

from benchmarks.official.api import OfficialBenchmark
from benchmarks.official.archives import checked_record, missing, wrong_content
from benchmarks.official.safe_pickle import ARCHIVE_LIMIT, read_plain_pickle
from benchmarks.tabular.files import checksum
from benchmarks.tabular.space import SIZE, require_official_order

_SUFFIX = ".pickle.pbz2"
_META = "meta" + _SUFFIX
_RECORD = re.compile(r"0*(\d+)\.pickle\.pbz2")
_SIZE_ARCH = re.compile(r"(8|16|24|32|40|48|56|64)(:(8|16|24|32|40|48|56|64)){4}")


class NatsBench(OfficialBenchmark):
    """A NATS-Bench archive behind the official API.

    Args:
        path: the unpacked `*-simple` folder, the `.pickle.pbz2` file, or a folder that holds one of them (tss) such as
            `$TORCH_HOME`.

    Errors:
        UserError: nothing there, a broken or malicious file, or another space than tss and sss.
    """

    space: Literal["topology", "size"]

    def __init__(self, path: str | Path) -> None:
        self.path = _inside(Path(path))
        if self.path.is_dir():
            self._content: dict[Any, Any] | None = None
            if not (self.path / _META).is_file():
                raise wrong_content(self.path, f"no {_META}", "an unpacked NATS-*-simple folder")
            archs = _meta_archs(read_plain_pickle(self.path / _META), self.path / _META)
        elif self.path.is_file():
            content = read_plain_pickle(self.path, ARCHIVE_LIMIT)
            archs = _meta_archs(content, self.path)
            if not isinstance(content.get("arch2infos"), dict):
                raise wrong_content(self.path, "no arch2infos", "a NATS-Bench archive")
            self._content = content["arch2infos"]
        else:
            raise missing("nats", self.path)
        self.space = _space(archs, self.path)
        self.api = _api(self.space, archs)
        self.provenance = {
            "kind": "nats",
            "name": f"NATS-Bench, {self.space} space",
            "source": self.path.name,
            "package": f"nats-bench {metadata.version('nats-bench')}",
            # The official name of a folder belongs to the archive it was unpacked from, so only the list is hashed
            # then.
            **checksum(self.path / _META if self.path.is_dir() else self.path),
        }

    @cached_property
    def held(self) -> tuple[int, ...]:
        if self._content is not None:
            return tuple(sorted(int(index) for index in self._content))
        return tuple(sorted(self._files))

    @cached_property
    def _files(self) -> dict[int, Path]:
        found = {}
        for path in self.path.iterdir():
            match = _RECORD.fullmatch(path.name)
            if match and int(match[1]) < len(self.api):
                found[int(match[1])] = path
        return found

    def _prepare(self, index: int) -> None:
        if index in self.api.arch2infos_dict:
            return
        from nats_bench.api_utils import ArchResults

        source = self.path if self._content is not None else self._files[index]
        raw = read_plain_pickle(source) if self._content is None else self._content[index]
        record = checked_record(raw, source)
        for state in record.values():
            if state["arch_str"] != self.api.arch(index):
                raise wrong_content(
                    source, f"the record of {str(state['arch_str'])[:60]}", f"the record of index {index}"
                )
        self.api.arch2infos_dict[index] = OrderedDict(
            (length, ArchResults.create_from_state_dict(state)) for length, state in record.items()
        )
        self.api.evaluated_indexes.add(index)
        self.api._avaliable_hps.update(record)

    def forget(self, index: int) -> None:
        super().forget(index)
        self.api.evaluated_indexes.discard(index)


def _inside(path: Path) -> Path:
    """The one topology archive in a folder that is none itself, or the path as it is."""
    if not path.is_dir() or (path / _META).is_file():
        return path
    folders = [place for place in sorted(path.glob("NATS-tss-*")) if (place / _META).is_file()]
    files = [place for place in sorted(path.glob(f"NATS-tss-*{_SUFFIX}")) if place.is_file()]
    # The folder form is read piece by piece, so it goes before the same archive in one file.
    found = folders or files
    return found[0] if len(found) == 1 else path


def _api(space: str, archs: list[str]) -> Any:
    """The official object, made from plain data: its own loader would run the pickles."""
    from nats_bench import NATSsize, NATStopology

    kind = NATStopology if space == "topology" else NATSsize
    return kind({"meta_archs": archs, "arch2infos": {}, "evaluated_indexes": []}, fast_mode=False, verbose=False)


def _meta_archs(content: Any, path: Path) -> list[str]:
    allowed = "a NATS-Bench archive with the list of architectures"
    if not isinstance(content, dict) or not isinstance(content.get("meta_archs"), list):
        raise wrong_content(path, "no list of architectures", allowed)
    archs = content["meta_archs"]
    if not all(isinstance(arch, str) for arch in archs):
        raise wrong_content(path, "architectures that are no texts", allowed)
    return list(archs)


def _space(archs: list[str], path: Path) -> Literal["topology", "size"]:
    if archs and len(archs) == 8**5 and len(set(archs)) == 8**5 and all(map(_SIZE_ARCH.fullmatch, archs)):
        return "size"
    require_official_order(archs, f"--benchmark nats:{path}")
    assert len(archs) == SIZE
    return "topology"
