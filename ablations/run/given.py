"""The genotype that a user gives to a command: one way to read it for all of them."""

import click

from benchmarks.tabular.space import official_arch
from cscdarts.records.genotype_source import read_genotype
from cscdarts.spaces.genotype import Genotype


def given_genotype(source: str) -> Genotype:
    """Read a genotype and tell the user on standard error what was taken, passed over or assumed.

    Errors:
        UserError: see `cscdarts.records.genotype_source.read_genotype`.
    """
    reading = read_genotype(source, official_arch)
    for note in reading.notes:
        click.echo(f"cscdarts: {note}", err=True)
    return reading.genotype
