"""`cscdarts config`: the settings, their values for a method and protocol, and the evidence behind each open choice."""

import json

import click

from ablations.commands.options.pager import paged
from cscdarts.settings.protocols import SCALES


@click.command()
@click.option("--protocol", "recipe", help="Show the settings of a protocol (default: the built-in defaults).")
@click.option("--scale", default="paper", show_default=True, help=f"{', '.join(SCALES)}.")
@click.option("--preset", help="Apply a method's settings.")
@click.option("--set", "assignments", multiple=True, metavar="KEY=VALUE", help="Change a setting.")
@click.option("--explain", is_flag=True, help="The choices the closed paper leaves open: default, switch, evidence.")
@click.option("--presets", "list_presets", is_flag=True, help="The methods, their sources and how ours departs.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@paged
def config(
    recipe: str | None,
    scale: str,
    preset: str | None,
    assignments: tuple[str, ...],
    explain: bool,
    list_presets: bool,
    as_json: bool,
) -> None:
    """List settings as `section.key = value`, with the run's hash."""
    from cscdarts.settings.config import RunConfig
    from cscdarts.settings.methods import apply_preset
    from cscdarts.settings.overrides import field_paths, parse_assignments, with_values
    from cscdarts.settings.protocols import protocol

    if explain:
        _explain(as_json)
        return
    if list_presets:
        _presets(as_json)
        return
    chosen = protocol(recipe, scale) if recipe else RunConfig()
    if preset:
        chosen = apply_preset(chosen, preset)
    chosen = with_values(chosen, parse_assignments(assignments))
    if as_json:
        click.echo(json.dumps({"hash": chosen.hash, **json.loads(chosen.model_dump_json())}, indent=1))
        return
    values = json.loads(chosen.model_dump_json())
    for path in field_paths():
        value = values
        for part in path.split("."):
            value = value[part]
        click.echo(f"{path} = {value if isinstance(value, str) else json.dumps(value)}")
    click.echo(f"hash = {chosen.hash}  (runtime and labels are outside it)")


def _explain(as_json: bool) -> None:
    from dataclasses import asdict

    from cscdarts.settings.open_choices import switches

    rows = switches()
    if as_json:
        click.echo(json.dumps([asdict(row) for row in rows], indent=1))
        return
    click.echo(
        "CSC-DARTS is published in a closed paper of which only the abstract is public. Each choice it leaves open "
        "is a\nswitch: change it with --set KEY=VALUE, or ablate it in a grid.\n"
    )
    for row in rows:
        click.echo(f"{row.number:2d}. {row.key} = {row.default}   [{row.level}]")
        click.echo(f"    what      {row.choice}")
        click.echo(f"    allowed   {row.allowed}")
        click.echo(f"    evidence  {row.evidence}")


def _presets(as_json: bool) -> None:
    from cscdarts.settings.methods import PRESETS

    if as_json:
        rows = [
            {
                "name": preset.name,
                "title": preset.title,
                "source": preset.paper,
                "code": preset.file,
                "deviations": preset.deviation,
                "values": dict(preset.values),
            }
            for preset in PRESETS.values()
        ]
        click.echo(json.dumps(rows, indent=1, default=str))
        return
    for preset in PRESETS.values():
        click.echo(f"{preset.name}: {preset.title}")
        click.echo(f"    paper      {preset.paper}")
        click.echo(f"    code       {preset.file or 'none public'}")
        click.echo(f"    deviation  {preset.deviation}")
