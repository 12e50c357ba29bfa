"""`cscdarts export`: a trained network, or a genotype's, as one file for other programs, with a card."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ablations.commands.options.progress import progress_bar
from ablations.commands.options.values import PathName, Whole
from cscdarts.errors import MissingFile, UserError

if TYPE_CHECKING:
    from cscdarts.export.classifier import Classifier

#: Options that say what a genotype's network is to be; a run's is what it was trained as.
_OF_GENOTYPE = ("recipe", "scale", "preset", "seed", "classes", "image_size", "image_channels", "assignments")
_NAMES = {"recipe": "--protocol", "assignments": "--set"}


@click.command()
@click.argument("what", metavar="RUN|GENOTYPE")
@click.option("--format", "form", metavar="NAME", help="safetensors, torch-export or onnx [by the ending of --out].")
@click.option(
    "--out",
    type=PathName(),
    required=True,
    metavar="F",
    help="The file; its card becomes F.card.md. An export is replaced.",
)
@click.option("--force", is_flag=True, help="Replace F also where it is no export.")
@click.option(
    "--data-root", type=PathName(), help="The data set, for class names and normalisation where no record tells them."
)
@click.option("--protocol", "recipe", help="Genotype: sizes and data [the usual one of its space].")
@click.option("--scale", help="Genotype: smoke, reduced or paper [reduced].")
@click.option("--preset", help="Genotype: the method, whose identity connection it has [none].")
@click.option("--seed", type=Whole(0, 2**31 - 1), help="Genotype: seed of the weights [0].")
@click.option("--classes", type=Whole(1, 1_000_000), help="Genotype: number of classes [those of the data].")
@click.option("--image-size", type=Whole(1, 512), help="Genotype: side in pixels [that of the data].")
@click.option("--image-channels", type=Whole(1, 64), help="Genotype: channels of the images [the data's].")
@click.option("--set", "assignments", multiple=True, metavar="KEY=VALUE", help="Genotype: change any other setting.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def export(
    what: str, form: str | None, out: Path, force: bool, data_root: Path | None, as_json: bool, **asked: Any
) -> None:
    """Write a network as one file, with a card that says what it is, and a card beside it.

    RUN is a run folder whose retraining has finished: its network after the last epoch, without auxiliary head.
    GENOTYPE is a cell in any form that `cscdarts draw` reads: its network untrained, as a retraining would begin
    with it. The network is in evaluation mode and takes normalised float32 images (n, c, h, w), any n, to logits.

    safetensors holds weights (cscdarts.load gives the module back, which can be trained on); torch-export and onnx are
    programs that run without cscdarts, at the image size of the card. Before anything is written the file is read back
    and its logits are compared with the network's.
    """
    from cscdarts.export.formats import FORMATS

    path = out
    chosen = _format(form, path, tuple(FORMATS), {one.ending: name for name, one in FORMATS.items()})
    if FORMATS[chosen].packages:
        from cscdarts.export.onnx_file import require_packages

        require_packages(*FORMATS[chosen].packages)
    from cscdarts.export.writing import require_place, write_export

    require_place(path, force)
    root = data_root
    if root is not None and not root.exists():
        raise MissingFile(root, "Name the folder of the data set with --data-root.")
    run = _run_folder(what)
    with progress_bar(not as_json) as advance:
        advance("network", 0, 2)
        classifier = _of_genotype(what, root, asked) if run is None else _of_run(run, root, asked)
        advance(chosen, 1, 2)
        written = write_export(classifier, FORMATS[chosen], path, force)
    card = classifier.card
    if as_json:
        told = {
            "file": str(written.path),
            "card_file": str(written.card_path),
            "format": chosen,
            "sha256": written.sha256,
            "largest_difference": written.difference if written.difference == written.difference else None,
            "card": card.model_dump(mode="json"),
        }
        click.echo(json.dumps(told, indent=1))
        return
    click.echo(f"{written.path}\n{written.card_path}\n{card.headline()}")
    click.echo(
        f"{card.params:,} parameters, {card.macs / 1e6:,.2f} M MACs, images {card.images.channels} x "
        f"{card.images.size} x {card.images.size}, {card.classes} classes"
    )
    if written.difference == written.difference:
        click.echo(f"read back: logits differ from the network's by at most {written.difference:.1e}")
    else:
        click.echo("read back; logits were not compared, for the network answers differently each time")


def _format(form: str | None, path: Path, known: tuple[str, ...], endings: dict[str, str]) -> str:
    """The format asked for, or that of the file's ending."""
    if form is not None and form not in known:
        raise UserError("--format", form, ", ".join(known), "Choose one of these.")
    by_ending = endings.get(path.suffix.lower())
    if form is not None and by_ending not in (None, form):
        raise UserError(
            "--out", str(path), f"a file of the format {form}, such as {path.stem}{_ending(form, endings)}",
            f"{path.suffix} is the ending of {by_ending}.",
        )  # fmt: skip
    chosen = form or by_ending
    if chosen is None:
        raise UserError("--format", None, ", ".join(known), f"{path.name} has none of their endings; name the format.")
    return chosen


def _ending(form: str, endings: dict[str, str]) -> str:
    return next(ending for ending, name in endings.items() if name == form)


def _run_folder(what: str) -> Path | None:
    """The run folder that is meant, or None for a genotype; a folder that holds a result but no config is a run's."""
    from cscdarts.records.genotype_source import existing_path
    from cscdarts.records.run_folder import RunFolder

    path = existing_path(what)
    if path is None or not path.is_dir():
        return None
    held = (RunFolder(path).file(name).exists() for name in ("config.json", "result.json", "retrain.pt"))
    return path if any(held) else None


def _of_run(path: Path, root: Path | None, asked: dict[str, Any]) -> "Classifier":
    given = [_NAMES.get(name, f"--{name.replace('_', '-')}") for name in _OF_GENOTYPE if asked[name] not in (None, ())]
    if given:
        raise UserError(
            given[0], str(path), "a genotype in place of the run folder",
            "A run's network is what it was trained as; leave the option out.",
        )  # fmt: skip
    from cscdarts.export.source import of_run
    from cscdarts.records.run_folder import RunFolder

    return of_run(RunFolder(path), lambda line: click.echo(f"cscdarts: {line}", err=True), root)


def _of_genotype(source: str, root: Path | None, asked: dict[str, Any]) -> "Classifier":
    from ablations.commands.retrain import PROTOCOL_OF
    from ablations.run.given import given_genotype
    from cscdarts.export.shape import asked_shape
    from cscdarts.export.source import of_genotype
    from cscdarts.records.code import running_code
    from cscdarts.settings.methods import apply_preset
    from cscdarts.settings.overrides import parse_assignments, with_values
    from cscdarts.settings.protocols import DEFAULT_SCALE, protocol

    cell = given_genotype(source)
    recipe = asked["recipe"] or PROTOCOL_OF.get(cell.space, "quickstart")
    base = protocol(recipe, asked["scale"] or DEFAULT_SCALE)
    # A cell by itself has no identity connection: `cscdarts cost` counts the same network.
    base = apply_preset(base, asked["preset"]) if asked["preset"] else with_values(base, {"supernet.identity": "none"})
    values: dict[str, Any] = {"supernet.space": cell.space, "seed": asked["seed"] or 0}
    values |= parse_assignments(asked["assignments"])
    if values["supernet.space"] != cell.space:
        raise UserError("--set supernet.space", values["supernet.space"], cell.space, "It is that of the genotype.")
    config = with_values(base, values)
    shape = asked_shape(config, root, asked["classes"], asked["image_size"], asked["image_channels"])
    click.echo("cscdarts: the network is untrained; give a run folder for a trained one", err=True)
    return of_genotype(cell, config, shape, running_code())
