"""`cscdarts runs`: what is to be done with a whole folder of runs."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import click

from ablations.commands.options.values import PathName
from ablations.drive.backend import clusters_of
from ablations.drive.driver import Driver
from ablations.grid.load import Grid
from ablations.run.migration import Migration, Outcome
from cscdarts.errors import MissingFile, OutsideFailure
from reports.read.tracking import quiet_client, sqlite_path, tracking_uri
from slurm.errors import ClusterError


@click.group()
def runs() -> None:
    """Take run folders of an earlier version over."""


@runs.command()
@click.option("--runs", type=PathName(), default=Path("runs"), show_default=True, help="Runs folder.")
@click.option("--data-root", type=PathName(), help="Where data sets lie [as each run has it].")
@click.option("--dry-run/--yes", "dry", default=True, help="Only say what would be done (the default), or do it.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def migrate(runs: Path, data_root: Path | None, dry: bool, as_json: bool) -> int:
    """Take the run folders of version 0.1.0 over.

    Searches and retrainings go under their keys, where all runs share them. A folder is taken over whole or not at all:
    what cannot be proven equal is refused and stays as it is, with the reason. Runs on image folders get the
    fingerprint of their images, and with it another hash, once the images at hand prove to be those that the run read.
    Ends with 1 where a folder was refused.
    """
    if not runs.is_dir():
        raise MissingFile(runs, "Name the folder of runs with --runs.")
    migration = Migration(runs, data_root, waiting, _forget)
    outcomes = list(migration.outcomes(dry))
    refused = sum(bool(one.refused) for one in outcomes)
    if as_json:
        found = {"dry_run": dry, "refused": refused, "runs": [_record(one) for one in outcomes]}
        click.echo(json.dumps(found, indent=1))
    else:
        for one in outcomes:
            click.echo(_line(one, dry))
        word = "would be taken over" if dry else "taken over"
        counted = Counter("refused" if one.refused else word for one in outcomes)
        told = ", ".join(f"{count} {kind}" for kind, count in sorted(counted.items())) or "no folder of version 0.1.0"
        click.echo(f"{runs}: {told}")
        if dry and len(outcomes) > refused:
            click.echo("nothing was changed; --yes does it")
    return 1 if refused else 0


def _line(one: Outcome, dry: bool) -> str:
    if one.refused:
        return f"{one.path} {one.refused}: it stays as it is"
    stages = ", ".join(f"{stage} {way}" for stage, way in one.ways.items()) or "nothing had begun"
    new = "" if one.target == one.path else f" as {one.target}, whose hash names its data"
    return f"{one.path} {'would be' if dry else 'is'} taken over{new} ({stages})"


def _record(one: Outcome) -> dict[str, Any]:
    return {
        "folder": str(one.path), "to": None if one.refused else str(one.target), "stages": dict(one.ways),
        "refused": one.refused or None,
    }  # fmt: skip


def waiting(folder: Path, key: str) -> str:
    """Which job of a run a cluster has in its queue, or may have; "" for none."""
    driver = Driver(Grid(folder.name, "", {}, (), folder), folder.parent)
    for cluster in clusters_of(driver):
        if not cluster.used():
            continue
        if not cluster.available():
            return f"it was run on {cluster.name}, whose queue cannot be seen from this machine"
        try:
            live = [job.job for job in cluster.jobs({key}) if job.live]
        except ClusterError as error:
            return f"the scheduler does not answer: {error}"
        if live:
            return f"job {live[0]} of {cluster.name}"
    return ""


def _forget(grid: str, key: str) -> None:
    """Mark a run as deleted in the tracker: the folder that takes its place is mirrored under its own hash.

    Errors:
        OutsideFailure: the store does not let it.
    """
    uri = tracking_uri()
    database = sqlite_path(uri)
    if database is not None and not database.is_file():
        return
    quiet_client()
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    try:
        client = MlflowClient(uri)
        experiment = client.get_experiment_by_name(grid)
        query = f"tags.`cscdarts.kind` = 'run' and tags.`cscdarts.hash` = '{key}'"
        for run in client.search_runs([experiment.experiment_id], query) if experiment else ():
            client.delete_run(run.info.run_id)
    except MlflowException as error:
        raise OutsideFailure(
            f"Deleting run {key} from {uri}", str(error), "Check MLFLOW_TRACKING_URI and migrate again."
        ) from error
