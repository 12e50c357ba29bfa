"""`cscdarts runs`: what is to be done with a whole folder of runs."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import click

from ablations.commands.options.values import PathName
from ablations.drive.backend import queued
from ablations.drive.driver import Driver
from ablations.drive.exit_codes import DONE, UNFINISHED
from ablations.grid.load import Grid
from ablations.mirror.rows import forget
from ablations.run.migration import Migration, Outcome
from cscdarts.errors import MissingFile, UserError


@click.group()
def runs() -> None:
    """Export runs to other programs, and take run folders of an earlier version over."""


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
    # The folder that takes a run's place is mirrored under its own hash.
    migration = Migration(runs, data_root, waiting, lambda grid, key: forget(runs / grid, [key]))
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
    return UNFINISHED if refused else DONE


@runs.command()
@click.argument("what", nargs=-1, required=True, metavar="GRID|RUN...")
@click.option("--to", "kind", required=True, metavar="KIND", help="tensorboard, wandb or csv.")
@click.option("--out", type=PathName(), required=True, metavar="DIR", help="The folder; an export is replaced.")
@click.option("--runs", type=PathName(), default=Path("runs"), show_default=True, help="Runs folder.")
def export(what: tuple[str, ...], kind: str, out: Path, runs: Path) -> int:
    """Write grids or single runs as files of another program.

    RUN is a hash, the beginning of one, or a run folder. An export is made from the run folders as they are now, and is
    replaced whole by the next one to the same folder. Nothing is sent anywhere: wandb writes offline runs, which
    `wandb sync DIR/wandb/offline-run-*` uploads where you want that.
    """
    from ablations.mirror.exports.folder import KINDS, export
    from ablations.run.chosen import chosen_runs

    if kind not in KINDS:
        raise UserError("--to", kind, ", ".join(KINDS), "Choose one of these.")
    count = export(chosen_runs(what, runs), kind, out)
    click.echo(f"{count} run{'s' * (count != 1)} in {out}")
    return DONE


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
    return queued(Driver(Grid(folder.name, "", {}, (), folder), folder.parent), {key}).get(key, "")
