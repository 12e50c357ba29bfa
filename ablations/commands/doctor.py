"""`cscdarts doctor`: what keeps runs from going, and an archive of it for a bug report."""

import contextlib
import json
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import click
from rich.console import Console

from ablations.commands.grid.choice import Choice
from ablations.commands.options.values import PathName
from ablations.doctor.asking import INPUT, Asking, Subject
from ablations.doctor.bundle import archive, known_here, secrets_here, write_bundle
from ablations.doctor.finding import Attachment, Finding, Named, Piece, Refusal, counts
from ablations.doctor.privacy.names import Redactor
from ablations.doctor.privacy.secrets import Secrets
from ablations.doctor.question import Question
from ablations.doctor.show import record, show
from ablations.drive.backend import backend_forms, read_backend
from ablations.drive.exit_codes import DONE, UNFINISHED
from cscdarts.errors import CannotWrite, UserError
from cscdarts.settings.protocols import SCALES

_CHECKS = "ablations.doctor.subjects"
#: What is looked at, in the order of the lines, and how long one look may take, seconds.
SUBJECTS = (
    Subject("Python", f"{_CHECKS}.python", 30),
    Subject("torch", f"{_CHECKS}.devices", 120),
    Subject("machine", f"{_CHECKS}.machine", 20),
    Subject("disk", f"{_CHECKS}.disk", 20),
    Subject("git", f"{_CHECKS}.code", 60),
    Subject("data", f"{_CHECKS}.data", 60),
    Subject("store", f"{_CHECKS}.store", 90),
    Subject("SLURM", f"{_CHECKS}.cluster", 60),
    Subject("profile", f"{_CHECKS}.profile", 90),
    Subject("grid", f"{_CHECKS}.grid", 300),
)
EVIDENCE = Subject("bundle", f"{_CHECKS}.evidence", 120)
#: The subject that reads what the user gave; its one check is below.
GIVEN = Subject(INPUT, __name__, 60)
_RESOLVED = "question.json"


@click.command()
@click.argument("source", metavar="[GRID]", default="")
@click.option("--scale", type=click.Choice(SCALES), help="Size of the grid's runs. [the last used one]")
@click.option("--data-root", type=PathName(), help="Where data sets lie or are downloaded to.")
@click.option("--runs", type=PathName(), default=Path("runs"), show_default=True, help="Folder of run folders.")
@click.option("--on", "backend", default="local", show_default=True, metavar="|".join(backend_forms()),
              help="Where the runs are to go: its limits are looked at.")  # fmt: skip
@click.option("--slurm", "overrides", multiple=True, metavar="KEY=VALUE", help="Override a key of the profile.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.option("--bundle", type=PathName(), help="Write an archive for a bug report, names and places replaced.")
def doctor(
    source: str, scale: str | None, data_root: Path | None, runs: Path, backend: str, overrides: tuple[str, ...],
    as_json: bool, bundle: Path | None,
) -> int:  # fmt: skip
    """Say what is good, weak or bad here: Python, torch, GPUs, memory, disk, data, MLflow store, SLURM, git.

    With GRID (a grid's name or the path of its file) also what binds its runs. Nothing is started, submitted or
    written, but for the archive of --bundle. In the JSON object `counts` has how many findings are of each level, and
    each of `findings` has `level`, `subject`, `sentence` and `way_out`.

    Ends with 1 where something is bad.
    """
    if bundle is not None:
        _require_place(bundle)
    question = Question(
        source, scale or "", (), None, str(runs), "" if data_root is None else str(data_root), backend, overrides
    )
    secrets = secrets_here(question)
    console = Console()
    asking = Asking()
    with _waiting(console, as_json):
        question, findings = _resolved(question, asking, secrets)
        pieces = asking.ask_all(SUBJECTS, question)
        evidence = [] if bundle is None else asking.ask(EVIDENCE, question)
    hidden = [name for piece in pieces if isinstance(piece, Named) and piece.kind == "secret" for name in piece.names]
    secrets = secrets.and_these(hidden)
    findings += [piece for piece in pieces if isinstance(piece, Finding)]
    clean = [Finding(one.level, one.subject, *(secrets.clean(" ".join(text.split())) for text in
                     (one.sentence, one.way_out))) for one in findings]  # fmt: skip
    if as_json:
        click.echo(json.dumps(record(clean), indent=1))
    else:
        show(clean, console)
    if bundle is not None:
        _write(bundle, question, secrets, clean, [*pieces, *evidence], evidence)
    return UNFINISHED if counts(clean)["bad"] else DONE


@contextlib.contextmanager
def _waiting(console: Console, as_json: bool) -> Iterator[None]:
    """Something that moves while one waits, on a terminal."""
    if as_json or not console.is_terminal:
        yield
        return
    with console.status("looking around, up to a minute", spinner="line"):
        yield


def _require_place(path: Path) -> None:
    if os.path.lexists(path):
        raise UserError("--bundle", str(path), "the path of a new file", "Remove it, or choose another name.")
    if not path.absolute().parent.is_dir():
        raise UserError(
            "--bundle", str(path), "a file in a folder that is there", "Make the folder, or choose another."
        )


def _resolved(question: Question, asking: Asking, secrets: Secrets) -> tuple[Question, list[Finding]]:
    """The question with what the grid was last run with; without the grid where it does not come to an end.

    Errors:
        UserError: what was given cannot be used.
    """
    said: list[Piece] = asking.ask(GIVEN, question)
    for piece in said:
        if isinstance(piece, Refusal):
            sentence = secrets.clean(piece.sentence)
            raise UserError("doctor", question.source, "what `cscdarts ablate plan` takes", "Correct it.", sentence)
        if isinstance(piece, Attachment):
            return Question.read(piece.text), []
    return replace(question, source=""), [piece for piece in said if isinstance(piece, Finding)]


def read_given(question: Question) -> Iterator[Attachment]:
    """Read grid and profile, and fill in what the grid was last run with.

    Errors:
        UserError, ClusterError: they cannot be used.
    """
    with contextlib.suppress(ModuleNotFoundError):  # a missing part is a finding of the subject that needs it
        read_backend(question.backend, question.overrides)
    if question.source:
        data_root = Path(question.data_root) if question.data_root else None
        choice = Choice(question.scale or None, (), data_root, None, Path(question.runs))
        grid = choice.grid(question.source)
        question = replace(
            question, source=grid.name if grid.shipped else str(grid.source), scale=grid.scale,
            assignments=tuple(f"{key}={value}" for key, value in grid.overrides.items()), retrainings=grid.asked,
        )  # fmt: skip
    yield Attachment(_RESOLVED, question.text())


def _write(
    path: Path, question: Question, secrets: Secrets, findings: list[Finding], named: list[Piece],
    evidence: list[Piece],
) -> None:  # fmt: skip
    redact = Redactor(known_here(question, [piece for piece in named if isinstance(piece, Named)]), secrets)
    data = archive(findings, evidence, redact)
    try:
        write_bundle(path, data)
    except OSError as error:
        raise CannotWrite("--bundle", path, error) from error
    click.echo(
        f"{path} ({len(data) / 1024:.0f} KiB) is for a bug report. Look at it before you send it: its README.txt says "
        "what it holds and what was replaced.", err=True,
    )  # fmt: skip


CHECKS = {"what was given": read_given}
