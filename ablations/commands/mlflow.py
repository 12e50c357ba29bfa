"""`cscdarts mlflow`: open the MLflow page on the recorded runs."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import click

from ablations.commands.options.values import PathName, Whole
from ablations.drive.exit_codes import DONE, UNFINISHED
from cscdarts.errors import MissingFile, UserError
from reports.read.database import is_there, schema_of
from reports.read.tracking import VARIABLE, is_server, quiet_client, shown, sqlite_path, tracking_uri

#: Seconds that the server and its workers have to end by themselves.
GRACE_S = 10.0
#: Who may name the server without being asked for: as MLflow has it, by any port.
_LOCAL = ("localhost", "localhost:*", "127.0.0.1", "127.0.0.1:*", "[::1]", "[[]::1]:*")


@click.group(invoke_without_command=True)
@click.option("--port", type=Whole(1, 65535), default=5000, show_default=True)
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on; 0.0.0.0 for all.")
@click.option(
    "--allow-host",
    "allowed",
    multiple=True,
    metavar="NAME",
    help="A name by which browsers may reach it, such as node7.cluster or *.lab.org; may be given again.",
)
@click.pass_context
def mlflow(context: click.Context, port: int, host: str, allowed: tuple[str, ...]) -> int:
    """Serve the store (MLFLOW_TRACKING_URI or sqlite:///mlflow.db) until interrupted."""
    if context.invoked_subcommand is not None:
        return DONE
    uri = tracking_uri()
    if is_server(uri):
        raise UserError(VARIABLE, shown(uri), "a local store", "That server has a page of its own: open it.")
    path = sqlite_path(uri)
    for name in allowed:
        if not name.strip() or any(c.isspace() or c in ",/@" for c in name):
            raise UserError("--allow-host", name, "a host's name, with * for any part", "Leave scheme and path away.")
    if path is not None and not path.exists():
        where = "this folder" if not path.is_absolute() and len(path.parts) == 1 else path.parent
        raise MissingFile(where, "Run a grid first, e.g. cscdarts ablate run quickstart.", path.name)
    _require_free(host, port)
    if path is not None and is_there(path):
        schema_of(path)
    click.echo(f"MLflow on http://{host}:{port} (Ctrl-C stops it)")
    quiet_client()
    command = [
        sys.executable,
        "-m",
        "mlflow",
        "server",
        "--backend-store-uri",
        uri,
        "--host",
        host,
        "--port",
        str(port),
    ]
    if allowed:
        both = [form for name in allowed for form in ((name,) if ":" in name else (name, f"{name}:*"))]
        command += ["--allowed-hosts", ",".join([*_LOCAL, *both])]
    return _serve(command)


@mlflow.command("log-models")
@click.argument("what", nargs=-1, required=True, metavar="GRID|RUN...")
@click.option("--runs", type=PathName(), default=Path("runs"), show_default=True, help="Runs folder.")
def log_models(what: tuple[str, ...], runs: Path) -> int:
    """Log the retrained networks of grids or single runs as MLflow models.

    RUN is a hash, the beginning of one, or a run folder. Each model holds a network's weights once more, so none is
    logged unless asked for here. What the store has already is left as it is. Afterwards, for the ID of a run's row,
    mlflow.pytorch.load_model("runs:/ID/model") gives the network. Ends with 1 where no run has a model.
    """
    from ablations.mirror.models import log_models as log
    from ablations.run.chosen import chosen_runs

    folders = chosen_runs(what, runs)
    logged = list(log(folders, lambda line: click.echo(f"cscdarts: {line}", err=True)))
    for one in logged:
        click.echo(f"{one.key}  {one.uri + ('' if one.is_new else '  (there already)') if one.uri else one.why}")
    new, there = sum(one.is_new for one in logged), sum(bool(one.uri) for one in logged)
    click.echo(f"{new} models logged, {there - new} there already, {len(logged) - there} runs without one")
    return DONE if there or not logged else UNFINISHED


def _require_free(host: str, port: int) -> None:
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
    except OSError as error:
        raise UserError("--host", host, "an address of this machine", "Try 127.0.0.1, or 0.0.0.0 for all.") from error
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise UserError("--port", port, "a free port", "It is in use; give another with --port.") from error


def _serve(command: list[str]) -> int:
    """Run the server until it ends or this process is told to (Ctrl-C, SIGTERM, SIGHUP); its workers end with it."""
    told: list[int] = []
    numbers = [n for n in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP) if signal.getsignal(n) != signal.SIG_IGN]
    before = {number: signal.signal(number, lambda number, frame: told.append(number)) for number in numbers}
    try:
        # A group of its own, so that one signal reaches the server and all that it has started.
        server = subprocess.Popen(command, start_new_session=True)
        try:
            while not told:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    return server.wait(0.2)
            return 128 + told[0]
        finally:
            _end(server)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _end(server: subprocess.Popen[bytes]) -> None:
    """End the server's whole group: asked first, then made to."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(server.pid, signal.SIGTERM)
        until = time.monotonic() + GRACE_S
        while time.monotonic() < until:
            server.poll()
            os.killpg(server.pid, 0)  # says so once nobody is left
            time.sleep(0.05)
        os.killpg(server.pid, signal.SIGKILL)
    server.wait()
