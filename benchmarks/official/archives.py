"""The official archives as files: what to download, what a record has to look like, checksums."""

from pathlib import Path
from typing import Any

from cscdarts.errors import UserError

#: What to fetch, by form: (file and size, page). The NATS pages state no size; theirs is reckoned from single records.
PROJECT_PAGES = {
    "nats": (
        "NATS-tss-v1_0-3ffb9-simple.tar, unpacked (about 1.3 GB: 15,625 records of some 85 kB), or "
        "NATS-tss-v1_0-3ffb9.pickle.pbz2 (needs far more memory to read)",
        "github.com/D-X-Y/NATS-Bench, section 'Preparation and Download'",
    ),
    "nasbench201": (
        "NAS-Bench-201-v1_1-096897.pth (4.7 GB)",
        "github.com/D-X-Y/NAS-Bench-201, section 'Preparation and Download'",
    ),
}


def missing(form: str, path: Path) -> UserError:
    """Says what to download, from which page, how large it is and where to put it."""
    what, page = PROJECT_PAGES[form]
    return UserError(
        "--benchmark",
        f"{form}:{path}",
        f"a path that holds {what}",
        f"Nothing is there: download it from {page} and put it at {path}, or name another path.",
    )


def wrong_content(path: Path | str, found: str, allowed: str) -> UserError:
    """Says that a file is readable but no record of this benchmark."""
    return UserError(
        "--benchmark", f"{path} ({found})", allowed, "Give the archive of the right search space, unchanged."
    )


def checked_record(record: Any, path: Path | str) -> dict[str, Any]:
    """The record of one architecture if it has the official shape: length -> state of `ArchResults`.

    Errors:
        UserError: another shape.
    """
    allowed = "a record of one architecture: training length, then results by data set and seed"
    if not isinstance(record, dict) or not record:
        raise wrong_content(path, type(record).__name__, allowed)
    for length, state in record.items():
        if not (isinstance(length, str) and length.isdigit()):
            raise wrong_content(path, f"key {str(length)[:20]!r}", allowed)
        if not isinstance(state, dict) or set(state) != {
            "arch_index", "arch_str", "all_results", "dataset_seed", "clear_net_done",
        }:  # fmt: skip
            raise wrong_content(path, f"length {length} without results", allowed)
        results, seeds = state["all_results"], state["dataset_seed"]
        if not (isinstance(results, dict) and isinstance(seeds, dict)):
            raise wrong_content(path, f"length {length} without results", allowed)
        for dataset, trials in seeds.items():
            for seed in trials:
                if not _is_trial(results.get((dataset, seed))):
                    raise wrong_content(path, f"no whole trial {seed} on {dataset}", allowed)
    return record


_TRIAL_KEYS = frozenset(
    [
        "name",
        "net_state_dict",
        "train_acc1es",
        "train_acc5es",
        "train_losses",
        "train_times",
        "arch_config",
        "params",
        "flop",
        "seed",
        "epochs",
        "latency",
        "eval_names",
        "eval_acc1es",
        "eval_times",
        "eval_losses",
    ]
)


def _is_trial(trial: Any) -> bool:
    return isinstance(trial, dict) and set(trial) == _TRIAL_KEYS and isinstance(trial["epochs"], int)
