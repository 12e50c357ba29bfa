"""Where the tracker is: the one answer that the mirror, the reports and the commands share. Imports nothing heavy."""

import logging
import os
import re
import socket
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import unquote, urlsplit

from cscdarts.errors import OutsideFailure, UserError

VARIABLE = "MLFLOW_TRACKING_URI"
DEFAULT_URI = "sqlite:///mlflow.db"
#: How long a tracking server may take to accept a connection, in seconds.
CONNECT_S = 10.0
#: What MLflow's client is told unless the user has: it asks the network for usage statistics and git for a commit,
#: prints addresses, and tries a server that is away again for minutes on end.
_QUIET = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "GIT_PYTHON_REFRESH": "quiet",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
}
#: Variables of MLflow that hold secrets: their values are never printed.
_SECRETS = ("MLFLOW_TRACKING_TOKEN", "MLFLOW_TRACKING_PASSWORD")
#: What tells of each table that is made in a new store.
_NOISY = ("alembic", "mlflow.store.db.utils", "mlflow.tracking")


def tracking_uri() -> str:
    """`MLFLOW_TRACKING_URI`, or an SQLite file in the present folder."""
    return os.environ.get(VARIABLE) or DEFAULT_URI


def quiet_client() -> None:
    """Set MLflow's client up before it is imported: no usage statistics, no noise, short waits."""
    for name, value in _QUIET.items():
        os.environ.setdefault(name, value)
    for noisy in _NOISY:
        logging.getLogger(noisy).setLevel(logging.WARNING)


def sqlite_path(uri: str) -> Path | None:
    """The file behind an SQLite URI, as SQLAlchemy (and so MLflow) reads it; None for any other store and in memory."""
    if not uri.startswith("sqlite:///"):
        return None
    name = uri.removeprefix("sqlite:///")
    if "%" in name or "?" in name:
        from sqlalchemy.engine import make_url

        name = make_url(uri).database or ""
    return None if name in ("", ":memory:") or name.startswith("file:") else Path(name)


def sqlite_uri(path: Path) -> str:
    """The URI of an SQLite file, whatever characters its path has."""
    if "?" not in str(path) and unquote(str(path)) == str(path):
        return f"sqlite:///{path}"
    from sqlalchemy.engine import URL

    return URL.create("sqlite", database=str(path)).render_as_string(hide_password=False)


def shown(uri: str) -> str:
    """A URI, or a text with some, as it may be printed: without user and password, and without the environment's
    secrets."""
    found = re.sub(r"(?<=://)[^/@]*@", "", uri)
    for secret in filter(None, (os.environ.get(name) for name in _SECRETS)):
        found = found.replace(secret, "***")
    return found


def require_environment(grid: str) -> None:
    """Refuse what MLflow's variables ask for and a grid cannot do; to be called before anything is run.

    Address, user, password, token and TLS are MLflow's client's to read, and it does; the mirror chooses experiment and
    run by the grid's name and the runs' hashes.

    Args:
        grid: the grid's name, which is its experiment's.

    Errors:
        UserError: a run or another experiment is named, or only one of user and password.
    """
    given = {name: os.environ.get(f"MLFLOW_{name}", "") for name in _CHOOSING}
    if given["RUN_ID"]:
        raise _refused("RUN_ID", given, "all runs of the grid would be written into one row")
    if given["EXPERIMENT_ID"]:
        raise _refused("EXPERIMENT_ID", given, f"a grid has the experiment of its own name, {grid}")
    if given["EXPERIMENT_NAME"] not in ("", grid):
        raise _refused("EXPERIMENT_NAME", given, f"a grid has the experiment of its own name, {grid}")
    user, password = (bool(os.environ.get(f"MLFLOW_TRACKING_{name}")) for name in ("USERNAME", "PASSWORD"))
    if user != password:
        lacks = "MLFLOW_TRACKING_PASSWORD" if user else "MLFLOW_TRACKING_USERNAME"
        has = "MLFLOW_TRACKING_USERNAME" if user else "MLFLOW_TRACKING_PASSWORD"
        sentence = f"{has} is set and {lacks} is not, so MLflow would use neither. Set both or none."
        raise UserError(lacks, "", "both or none", "Set both or none.", sentence)


#: What MLflow lets a program's caller choose and the mirror has to choose itself.
_CHOOSING = ("RUN_ID", "EXPERIMENT_ID", "EXPERIMENT_NAME")


def _refused(name: str, given: Mapping[str, str], why: str) -> UserError:
    variable = f"MLFLOW_{name}"
    fix = f"Leave it out: env -u {variable} cscdarts ..."
    return UserError(variable, given[name], "unset", fix, f"{variable} is set to {given[name]}, but {why}. {fix}")


def is_server(uri: str) -> bool:
    """Whether the tracker is asked over HTTP."""
    return uri.startswith(("http://", "https://"))


def require_server(uri: str) -> None:
    """Find out within `CONNECT_S` seconds whether a tracking server takes connections; other stores are passed over.

    Errors:
        OutsideFailure: it does not, or the address is none.
    """
    if not is_server(uri):
        return
    what = f"Asking the tracking server {shown(uri)}"
    fix = f"Check that it runs and that {VARIABLE} names it."
    try:
        parts = urlsplit(uri)
        host, port = parts.hostname, parts.port or (443 if parts.scheme == "https" else 80)
    except ValueError as error:
        raise OutsideFailure(what, str(error), fix) from error
    if not host:
        raise OutsideFailure(what, "the address names no host", fix)
    if _proxied(parts.scheme, host):
        return  # the proxy is what is connected to
    try:
        socket.create_connection((host, port), timeout=CONNECT_S).close()
    except TimeoutError as error:
        raise OutsideFailure(what, f"no answer within {CONNECT_S:g} s", fix) from error
    except (OSError, UnicodeError) as error:
        raise OutsideFailure(what, getattr(error, "strerror", None) or str(error), fix) from error


def _proxied(scheme: str, host: str) -> bool:
    from urllib.request import getproxies, proxy_bypass

    return scheme in getproxies() and not proxy_bypass(host)


def one_line(error: Exception) -> str:
    """What an error says, short, on one line and without credentials."""
    text = shown(" ".join(str(error).split()))
    return f"{type(error).__name__}: {text[:300]}" if text else type(error).__name__


def deleted_experiment(grid: str, number: str, uri: str) -> UserError:
    """Says how a grid that was deleted in the tracker comes back, or makes room for a new one."""
    again = f"Bring it back: {VARIABLE}='{shown(uri)}' mlflow experiments restore --experiment-id {number}"
    anew = f"or have it anew: mlflow gc --backend-store-uri '{shown(uri)}' --experiment-ids {number}, then"
    fix = f"{again}; {anew} cscdarts ablate watch {grid}."
    sentence = f"The experiment {grid} was deleted in {shown(uri)}. {fix}"
    return UserError("GRID", grid, "an experiment that is not deleted", fix, sentence)
