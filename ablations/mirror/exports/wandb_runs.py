"""W&B: one offline run for each run, for `wandb sync`; nothing is sent from here."""

import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from ablations.mirror.exports.content import RunContent, picture_of
from cscdarts.errors import UserError

#: What it needs beside the package.
PACKAGES = ("wandb",)
#: Variables by which W&B would write elsewhere, into another run, or to the network.
_REFUSED = ("WANDB_RUN_ID", "WANDB_RESUME", "WANDB_SWEEP_ID")


def write(runs: list[RunContent], out: Path) -> None:
    """Write `out/wandb/offline-run-*-HASH`: curves over a step for each stage, configuration, summary and the cell.

    Errors:
        UserError: the environment names one run for all.
    """
    for name in _REFUSED:
        if os.environ.get(name):
            fix = f"Leave it out: env -u {name} cscdarts ..."
            sentence = f"{name} is set, but each run is exported as a run of its own. {fix}"
            raise UserError(name, "set", "unset", fix, sentence)
    with _offline():
        import wandb

        for run in runs:
            with wandb.init(
                project=os.environ.get("WANDB_PROJECT") or "cscdarts", group=run.grid, id=run.key, name=run.name,
                notes=run.note, tags=[f"{key}={value}"[:64] for key, value in run.tags.items() if key != "hash"],
                config=dict(run.settings), dir=str(out), mode="offline", reinit="finish_previous",
                settings=wandb.Settings(
                    console="off", silent=True, disable_git=True, disable_code=True, save_code=False,
                    disable_job_creation=True, x_disable_stats=True, x_disable_meta=True, x_disable_machine_info=True,
                ),
            ) as made:  # fmt: skip
                for stage in dict.fromkeys(line.stage for line in run.lines):
                    made.define_metric(f"{stage}/epoch", hidden=True)
                    made.define_metric(f"{stage}/*", step_metric=f"{stage}/epoch")
                for row in _rows(run):
                    made.log(row)
                made.summary.update({**run.results, "status": run.status, "genotype": run.genotype})
                cell = run.cell
                if cell is not None:
                    made.log({"cell": wandb.Image(picture_of(cell, run.name), caption=run.genotype)})
    _tidy(out / "wandb")


def _tidy(folder: Path) -> None:
    """Remove W&B's logs, which name folders of this machine, and its links to the last run."""
    for path in folder.iterdir():
        if path.is_symlink():
            path.unlink()
        else:
            shutil.rmtree(path / "logs", ignore_errors=True)
            shutil.rmtree(path / "tmp", ignore_errors=True)


def _rows(run: RunContent) -> Iterator[dict[str, float]]:
    """One entry for each epoch of each stage."""
    rows: dict[tuple[str, int], dict[str, float]] = {}
    for line in run.lines:
        row = rows.setdefault((line.stage, line.epoch), {f"{line.stage}/epoch": line.epoch, "time": line.time})
        row[f"{line.stage}/{line.metric}"] = line.value
    yield from rows.values()


#: W&B offline, without asking the network and without a key, whatever the environment says.
_ENVIRONMENT: Mapping[str, str | None] = {
    "WANDB_MODE": "offline",
    "WANDB_API_KEY": None,
    "WANDB_SILENT": "true",
    "WANDB_ERROR_REPORTING": "false",
    "WANDB_DIR": None,
}


@contextmanager
def _offline() -> Iterator[None]:
    before = {name: os.environ.get(name) for name in _ENVIRONMENT}
    _set(_ENVIRONMENT)
    try:
        yield
    finally:
        _set(before)


def _set(values: Mapping[str, str | None]) -> None:
    for name, value in values.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value
