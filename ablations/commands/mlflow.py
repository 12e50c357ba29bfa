"""`cscdarts mlflow`: open the MLflow page on the recorded runs."""

import socket
import subprocess
import sys
from pathlib import Path

import click

from cscdarts.errors import MissingFile, UserError
from reports.read.tracking import DEFAULT_URI, VARIABLE, tracking_uri


@click.command()
@click.option("--port", type=click.IntRange(1, 65535), default=5000, show_default=True)
@click.option("--host", default="127.0.0.1", show_default=True)
def mlflow(port: int, host: str) -> int:
    """Serve the store (MLFLOW_TRACKING_URI or sqlite:///mlflow.db) until interrupted."""
    uri = tracking_uri()
    if uri.startswith(("http://", "https://")):
        raise UserError(VARIABLE, uri, "a local store", "That server has a page of its own: open it.")
    if uri == DEFAULT_URI and not Path(DEFAULT_URI.removeprefix("sqlite:///")).exists():
        raise MissingFile("this folder", "Run a grid first, e.g. make quickstart.", "mlflow.db")
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise UserError("--port", port, "a free port", "It is in use; give another with --port.") from error
    click.echo(f"MLflow on http://{host}:{port} (Ctrl-C stops it)")
    store = ("--backend-store-uri", uri)
    command = [sys.executable, "-m", "mlflow", "server", *store, "--host", host, "--port", str(port)]
    return subprocess.call(command)
