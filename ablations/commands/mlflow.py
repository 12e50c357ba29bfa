"""`cscdarts mlflow`: open the MLflow page on the recorded runs."""

import os
import socket
import subprocess
import sys

import click

from cscdarts.errors import UserError


@click.command()
@click.option("--port", type=click.IntRange(1, 65535), default=5000, show_default=True)
@click.option("--host", default="127.0.0.1", show_default=True)
def mlflow(port: int, host: str) -> int:
    """Serve the store (MLFLOW_TRACKING_URI or sqlite:///mlflow.db) until interrupted."""
    uri = os.environ.get("MLFLOW_TRACKING_URI", "sqlite:///mlflow.db")
    if uri.startswith(("http://", "https://")):
        raise UserError("MLFLOW_TRACKING_URI", uri, "a local store", "That server has a page of its own: open it.")
    if uri == "sqlite:///mlflow.db" and not os.path.exists("mlflow.db"):  # noqa: PTH110
        raise UserError("mlflow.db", "missing", "a store in this folder", "Run a grid first, e.g. make quickstart.")
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise UserError("--port", port, "a free port", "It is in use; give another with --port.") from error
    click.echo(f"MLflow on http://{host}:{port} (Ctrl-C stops it)")
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
    return subprocess.call(command)
