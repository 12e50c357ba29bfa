"""Where the tracker is: the one answer that the mirror, the reports and the commands share. Imports nothing heavy."""

import os

VARIABLE = "MLFLOW_TRACKING_URI"
DEFAULT_URI = "sqlite:///mlflow.db"


def tracking_uri() -> str:
    """`MLFLOW_TRACKING_URI`, or an SQLite file in the present folder."""
    return os.environ.get(VARIABLE) or DEFAULT_URI
