"""Run folders of version 0.1.0: what one holds, and the proof that it is what the present version would keep apart.

A folder of 0.1.0 holds all files of its run itself: no `keys.json`, the epochs of all stages in one `metrics.jsonl`,
checkpoints sealed with the hash of the run, and a configuration that does not say what images it was run on. What is
not proven here is refused, so that nothing stands under a key that it does not answer for.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from cscdarts.data.fingerprint import fingerprint, with_fingerprints
from cscdarts.errors import UserError
from cscdarts.records.run_folder import RunFolder, read_json
from cscdarts.records.runs_folder import run_folders
from cscdarts.settings.config import DataConfig, RunConfig
from cscdarts.settings.keys import Key, Stage, retraining_key, search_key
from cscdarts.settings.metrics import METRICS
from cscdarts.spaces import Genotype, parse_genotype

#: Stage -> its files in a folder of 0.1.0, the output first; its epochs stand in `metrics.jsonl`.
STAGE_FILES: Mapping[Stage, tuple[str, ...]] = {
    "search": ("search.json", "alphas.jsonl", "checkpoint.pt", "checkpoint.previous.pt", "checkpoint.fresh.pt"),
    "retrain": ("result.json", "retrain.pt", "retrain.previous.pt", "retrain.fresh.pt"),
}
#: Data sets whose name does not say their content.
_NAMELESS = ("image-folder", "imagenet", "fashion-mnist")


class Refused(Exception):
    """What keeps a folder from being taken over, as the predicate of a sentence."""


@dataclass(frozen=True)
class OldRun:
    """A run folder of 0.1.0 that is what its name says.

    Attributes:
        config: as recorded; target: with the fingerprints of its data, whose hash names the folder to be.
        search, genotype, result: what the files hold, {} where one is missing.
        begun: the stages that have left anything.
    """

    path: Path
    config: RunConfig
    target: RunConfig
    search: Mapping[str, Any]
    genotype: Mapping[str, Any]
    result: Mapping[str, Any]
    begun: tuple[Stage, ...]

    @property
    def folder(self) -> RunFolder:
        """The folder."""
        return RunFolder(self.path)

    def output(self, stage: Stage) -> Mapping[str, Any]:
        """What a stage has left at its end; {} where it has not ended."""
        return self.search if stage == "search" else self.result

    def key(self, stage: Stage) -> Key:
        """The key of its search, or of a retraining that has begun."""
        return search_key(self.target) if stage == "search" else retraining_key(self.target, self.genotype["text"])


def stamps_of(folder: Path, names: tuple[str, ...]) -> dict[str, list[int]]:
    """Name -> [size in bytes, modification time in ns] of those files of a folder that are there."""
    found = {name: (folder / name).stat() for name in names if (folder / name).is_file()}
    return {name: [stat.st_size, stat.st_mtime_ns] for name, stat in found.items()}


def old_folders(runs: Path) -> Iterator[Path]:
    """The folders below `runs/GRID/` that have a configuration and no keys: those that 0.1.0 wrote."""
    yield from (path for path in run_folders(runs) if not (path / "keys.json").exists())


def proven(path: Path, data_root: Path | None) -> OldRun:
    """Read a folder and prove what it holds.

    Args:
        data_root: where its data lie now; where its configuration says if None.

    Errors:
        Refused: something is not as 0.1.0 leaves it, or cannot be proven; UserError: a file cannot be read.
    """
    folder = RunFolder(path)
    config = folder.config()
    if config.hash != path.name:
        raise Refused(f"holds the configuration of run {config.hash}, but is named {path.name}")
    search, genotype, result = (_object(folder, name) for name in ("search.json", "genotype.json", "result.json"))
    stages = {str(line.get("stage")) for line in folder.curves()}
    begun = tuple(s for s, files in STAGE_FILES.items() if s in stages or any((path / one).exists() for one in files))
    _prove_cell(config, folder, search, genotype)
    _prove_result(config, search, genotype, result)
    if "retrain" in begun and not genotype:
        raise Refused("holds a retraining but no genotype.json, so it is not known of which cell")
    root = data_root or Path(config.runtime.data_root)
    target = _with_data(config, {"search": search, "retrain": result}, begun, root)
    return OldRun(path, config, target, search, genotype, result, begun)


def _object(folder: RunFolder, name: str) -> dict[str, Any]:
    if folder.file(name).is_dir():
        raise Refused(f"has a folder in place of {name}")
    value = read_json(folder.file(name))
    if value is not None and not isinstance(value, dict):
        raise Refused(f"has a {name} that is no object")
    return value or {}


def _prove_cell(
    config: RunConfig, folder: RunFolder, search: Mapping[str, Any], genotype: Mapping[str, Any]
) -> None:  # fmt: skip
    """The cell is the one that the search's own record gives."""
    if not genotype:
        return
    if not search:
        raise Refused("holds genotype.json but no search.json, so it is not known where the cell comes from")
    if "text" not in genotype or "epoch" not in genotype:
        raise Refused("has a genotype.json without a cell and its epoch")
    cell = parse_genotype(str(genotype["text"]), config.supernet.space)
    if cell != _derived(config, folder, search, int(genotype["epoch"])):
        raise Refused("holds another cell in genotype.json than its search gives")


def _derived(config: RunConfig, folder: RunFolder, search: Mapping[str, Any], epoch: int) -> Genotype:
    from cscdarts.training.derivation import genotype_of_line

    if "genotype" in search:
        return parse_genotype(str(search["genotype"]), config.supernet.space)
    lines = {int(line["epoch"]): line for line in folder.alphas()}
    if epoch not in lines or (config.search.derive == "last" and epoch != config.search.epochs - 1):
        raise Refused(f"has a cell of epoch {epoch}, which its alphas.jsonl does not give")
    return genotype_of_line(config.supernet, lines[epoch])


def _prove_result(
    config: RunConfig, search: Mapping[str, Any], genotype: Mapping[str, Any], result: Mapping[str, Any]
) -> None:
    if not result:
        return
    if not genotype:
        raise Refused("holds result.json but no genotype.json")
    if result.get("genotype") != genotype["text"]:
        raise Refused("holds a result.json of another cell than its genotype.json")
    if result.get("hash") != config.hash:
        raise Refused(f"holds a result.json of run {result.get('hash')}")
    if not search.get("values", {}).items() <= result.get("values", {}).items():
        raise Refused("holds a result.json with other values of the search than its search.json")


def _with_data(
    config: RunConfig, outputs: Mapping[Stage, Mapping[str, Any]], begun: tuple[Stage, ...], root: Path
) -> RunConfig:
    """The configuration with the fingerprints of its data, once they are proven to be what the run read."""
    data = config.data
    read: dict[Stage, str] = {"search": data.searched_dataset, "retrain": data.dataset}
    nameless = [name for name in read.values() if name in _NAMELESS]
    if not nameless or data.fingerprint or data.search_fingerprint:
        return config
    for stage in begun:
        if read[stage] not in _NAMELESS or (stage == "search" and config.search.strategy == "random"):
            continue
        recorded = outputs[stage].get("data", {}).get("sha256")
        if recorded is None:
            raise Refused(f"has a {stage} that has not ended, so the images of {read[stage]} that it reads are unknown")
        now = _pixels(data, read[stage], root)
        if now != recorded:
            raise Refused(
                f"was run on images of {read[stage]} with fingerprint {recorded[:16]}; those under {root} have "
                f"{now[:16]}"
            )
    marks = {name: _mark(name, root) for name in set(nameless)}
    other = "" if data.searched_dataset == data.dataset else marks.get(data.searched_dataset, "")
    return with_fingerprints(config, marks.get(data.dataset, ""), other)


def _mark(name: str, root: Path) -> str:
    _require_at_hand(name, root)
    try:
        return fingerprint(name, root)
    except (UserError, OSError) as error:
        raise Refused(f"needs the images of {name}: {error}") from error


def _require_at_hand(name: str, root: Path) -> None:
    raw = root / "FashionMNIST" / "raw"
    if name == "fashion-mnist" and len(list(raw.glob("*-ubyte"))) < 4:
        raise Refused(f"needs the images of {name}, which are not under {root}; name their folder with --data-root")


@lru_cache(maxsize=4)
def _pixels(config: DataConfig, name: str, root: Path) -> str:
    """The fingerprint of pixels and labels that records of 0.1.0 hold, of the data as they are now."""
    import torch

    from cscdarts.data.datasets import load_arrays
    from cscdarts.data.source import Place
    from cscdarts.data.streaming import open_streamed

    _require_at_hand(name, root)
    try:
        if name == "imagenet":
            return open_streamed(config, root, Place(torch.device("cpu")), 2, 0, workers=0, color_jitter=False).sha256
        return load_arrays(config, name, root).sha256()
    except (UserError, OSError) as error:
        raise Refused(f"needs the images of {name}: {' '.join(str(error).split())}") from error


def difference(stage: Stage, ours: RunFolder, theirs: RunFolder) -> str | None:
    """How what one folder holds of a stage differs from what another holds under the same key, times aside.

    Returns:
        The predicate of a sentence about the other folder; None where the other's is ours, or goes on from ours.
    """
    there, here = (read_json(one.file(STAGE_FILES[stage][0])) for one in (theirs, ours))
    if there is None:
        return "is unfinished; let it end, or move it away, and migrate again"
    if here is not None and _counted(here) != _counted(there):
        return "holds another result"
    pairs: list[tuple[Sequence[Any], Sequence[Any]]] = [(_losses(stage, ours), _losses(stage, theirs))]
    pairs += [(ours.alphas(), theirs.alphas())] if stage == "search" else []
    if any(mine != other[: len(mine)] or (here is not None and len(mine) != len(other)) for mine, other in pairs):
        return "holds other epochs"
    return None


def _counted(output: Mapping[str, Any]) -> tuple[Any, Any]:
    """What an output says of a cell: which one it is, and how it did."""
    return output.get("genotype"), output.get("values", {}).get("test_error_pct")


def own_values(stage: Stage, output: Mapping[str, Any]) -> dict[str, Any]:
    """The values of an output that are the stage's own: result.json of 0.1.0 repeated those of its search."""
    values = output.get("values", {})
    return {name: value for name, value in values.items() if name not in METRICS or METRICS[name].stage == stage}


def _losses(stage: Stage, folder: RunFolder) -> list[tuple[int, Any]]:
    """(epoch, training loss) in order."""
    lines = [line for line in folder.curves() if line["stage"] == stage]
    return sorted((int(line["epoch"]), line["values"].get(f"{stage}_train_loss")) for line in lines)
