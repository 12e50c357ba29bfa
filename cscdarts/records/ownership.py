"""Whether a folder holds the run that is asked for: every key in it is compared before anything in it is believed or
written. No torch.

A folder that was renamed, copied over, filled by hand, or made for other settings or other data answers for nothing but
itself. What is found is one sentence; who meets it stops there and leaves the folder as it is.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NoReturn

from cscdarts.errors import BrokenFile, UserError
from cscdarts.records.damage import ASIDE, BEFORE_CONFIG
from cscdarts.records.run_folder import STAGE_FOLDERS, RunFolder, read_json, read_record
from cscdarts.records.unchanged import Unchanged
from cscdarts.settings.config import RunConfig, canonical_json, hashed_values, neutral_values
from cscdarts.settings.keys import Key, Stage, retraining_key, search_key, searches
from cscdarts.settings.overrides import dotted

#: What may lie in a folder before its config does: a start that came no further, and what the system puts everywhere.
#: Anything else is somebody's, be it another run's or the user's own.
_BEFORE_CONFIG = BEFORE_CONFIG | {ASIDE, "keys.json", *STAGE_FOLDERS.values()}
#: Differences that a sentence names.
_NAMED = 3


def require_own(folder: RunFolder, config: RunConfig) -> None:
    """Make sure that a folder is empty, missing, or holds this run and nothing else's output.

    Errors:
        UserError: it holds something else; nothing was written.
    """
    problem = foreign(folder, config)
    if problem is not None:
        _refuse(folder, config, problem)


def _refuse(folder: RunFolder, config: RunConfig, problem: str) -> NoReturn:
    raise UserError(
        str(folder.path), problem, f"a folder of run {config.hash}", "Choose another folder, or move it away.",
        f"{folder.path} {problem}. Nothing was written; choose another folder, or move this one away.",
    )  # fmt: skip


def foreign(folder: RunFolder, config: RunConfig) -> str | None:
    """What keeps a folder from being this run's, as the predicate of a sentence; None where it is or can become it."""
    try:
        return next(_problems(folder, config), None)
    except UserError as error:
        return f"cannot be read as a run's ({' '.join(str(error).split())})"


def _problems(folder: RunFolder, config: RunConfig) -> Iterator[str]:
    keys, there, allowed = folder.keys(), _built(folder.path / "config.json"), _BEFORE_CONFIG
    if there is None:
        if keys is not None and keys["run"] != config.hash:
            yield f"was begun for run {keys['run']}, not for run {config.hash}"
        elif keys is None:
            allowed = _BEFORE_CONFIG.difference(STAGE_FOLDERS.values())
        found = [name for name in _names(folder.path) if name not in allowed and not name.startswith(".")]
        if found:
            yield f"holds {found[0]} but no config.json, so it is not known whose that is"
        return
    if there.hash != config.hash:
        yield f"holds run {there.hash}, not run {config.hash}: {differences(there, config)}"
    if keys is not None:
        wanted = [search_key(one).id for one in searches(config)]
        if keys["run"] != config.hash:
            yield f"says in keys.json that it holds run {keys['run']}, not run {config.hash}"
        if keys.get("searches") != wanted or keys["search"] not in wanted:
            yield f"names other searches in keys.json than run {config.hash} has ({', '.join(wanted)})"
    yield from _stages(folder, config, keys)


def _stages(folder: RunFolder, config: RunConfig, keys: Mapping[str, Any] | None) -> Iterator[str]:
    if keys is not None:
        yield from _stage_folders(folder.path / keys["store"], keys)
    search, genotype = _read(folder.file("search.json")), _read(folder.path / "genotype.json")
    key = search_key(config).id if keys is None else str(keys["search"])
    if search is not None and search.get("key", key) != key:
        yield f"leads to search.json of search {search['key']}, not of {key}"
    if genotype is None:
        return
    if genotype.get("search", key) not in ([key] if keys is None else keys["searches"]):
        yield f"holds genotype.json derived from search {genotype['search']}, not from {key}"
    elif genotype.get("rule", config.search.derive) not in (config.search.derive, config.search.strategy):
        yield f"holds genotype.json derived by {genotype['rule']}, not by {config.search.derive}"
    if search is not None and "genotype" in search and search["genotype"] != genotype["text"]:
        yield "holds genotype.json with another cell than its search.json"
    wanted = retraining_key(config, str(genotype["text"])).id
    if keys is not None and keys["retrain"] not in (None, wanted):
        yield f"names retraining {keys['retrain']} in keys.json, but its cell has {wanted}"
    result = _read(folder.file("result.json"))
    if result is not None and result.get("key", wanted) != wanted:
        yield f"leads to result.json of retraining {result['key']}, not of {wanted}"
    elif result is not None and result.get("genotype", genotype["text"]) != genotype["text"]:
        yield "leads to result.json of another cell than its genotype.json"


def _stage_folders(store: Path, keys: Mapping[str, Any]) -> Iterator[str]:
    """Whether the folders that keys lead to say themselves that they are of these keys."""
    stages: list[tuple[Stage, str]] = [("search", key) for key in keys["searches"]]
    stages += [("retrain", keys["retrain"])] if keys["retrain"] else []
    for stage, key in stages:
        place = store / STAGE_FOLDERS[stage] / key
        text = _key_text(place / "key.json")
        if text is not None and (there := Key(stage, text).id) != key:
            yield f"leads to {place}, whose key.json is that of {stage} {there}"
        output = _read(place / "search.json") if stage == "search" else None
        if output is not None and output.get("key", key) != key:
            yield f"leads to {place}, whose search.json is that of search {output['key']}"


def require_search(folder: RunFolder, config: RunConfig) -> None:
    """Make sure that what a folder holds of a search is that of this config.

    Errors:
        UserError: it is another's.
    """
    _require_stage(folder, config, "search.json", search_key(config).id)


def require_retraining(folder: RunFolder, config: RunConfig) -> None:
    """Make sure that what a folder holds of a retraining is that of its own cell under this config.

    Errors:
        UserError: it is another's.
    """
    key = folder.retraining_key(config)
    if key is not None:
        _require_stage(folder, config, "result.json", key.id)


def _require_stage(folder: RunFolder, config: RunConfig, name: str, key: str) -> None:
    if folder.keys() is None:
        require_own_config(folder, config)
    found = _read(folder.file(name))
    if found is not None and found.get("key", key) != key:
        raise UserError(str(folder.file(name)), f"of {found['key']}", f"that of {key}", "Choose another folder.")


def require_own_config(folder: RunFolder, config: RunConfig) -> None:
    """Make sure that a folder which has a config has this one.

    Errors:
        UserError: it has another.
    """
    there = _built(folder.path / "config.json")
    if there is not None and there.hash != config.hash:
        _refuse(folder, config, f"holds run {there.hash}, not run {config.hash}: {differences(there, config)}")


def differences(there: RunConfig, here: RunConfig) -> str:
    """The settings in which two runs differ, for people: `seed is 0 there and 77 here`."""
    neutral = neutral_values()
    ours, theirs = ({**neutral, **dotted(hashed_values(one))} for one in (here, there))
    names = [name for name in sorted({*ours, *theirs}) if ours.get(name) != theirs.get(name)]
    named = [f"{name} is {_shown(theirs.get(name))} there and {_shown(ours.get(name))} here" for name in names[:_NAMED]]
    more = len(names) - len(named)
    return ", ".join(named) + (f", and {more} more differ" if more else "")


def _shown(value: Any) -> str:
    return "empty" if value == "" else str(value)


def _names(path: Path) -> list[str]:
    """What lies in a folder, sorted; nothing in one that is not there or cannot be listed."""
    try:
        return sorted(entry.name for entry in path.iterdir())
    except OSError:
        return []


def _told(path: Path) -> dict[str, Any]:
    """Of an output only what is compared, so that thousands of runs are remembered cheaply."""
    value = read_record(path) or {}
    names = ("key", "search", "rule", "text", "genotype")
    return {name: value[name] for name in names if name in value}


def _key_in(path: Path) -> str:
    """The key that a file holds.

    Errors:
        BrokenFile: it holds none.
    """
    try:
        return canonical_json(read_json(path))
    except (ValueError, RecursionError) as error:
        raise BrokenFile(path, str(error), "a key as cscdarts wrote it", "Move the folder away.") from error


#: A JSON object, the config of a folder by its file, and a key's text, each None where there is no file.
_read = Unchanged(_told)
_built = Unchanged(lambda path: RunFolder(path.parent).config())
_key_text = Unchanged(_key_in)
