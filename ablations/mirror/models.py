"""The networks that runs have retrained, as MLflow models: on request, as each holds the weights once more.

A model is the traced program that `cscdarts export --format torch-export` writes (MLflow's own safe format, `pt2`):
nothing is pickled, `mlflow.pytorch.load_model("runs:/ID/model")` needs torch alone, and `cscdarts.load` reads its
`data/model.pt2` with the card inside. It is made from the run folder and tells by its weights whether it is current.
"""

import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ablations.mirror.datasets import CONTEXT
from ablations.mirror.rows import Home, home_of, models_of, rows_of
from cscdarts.errors import HeldByAnother, OutsideFailure, UserError
from cscdarts.records.run_folder import RunFolder
from reports.read.tracking import (
    VARIABLE,
    one_line,
    quiet_client,
    require_environment,
    require_server,
    shown,
    sqlite_path,
    tracking_uri,
)
from slurm.lock import Lock

if TYPE_CHECKING:
    from cscdarts.export.classifier import Classifier

#: The model's name in its run: `runs:/ID/model`.
NAME = "model"
#: The tag of a model that tells which weights it holds.
WEIGHTS = "cscdarts.weights"
_FORMAT = "torch-export"
#: The numbers of a run that its model shows.
_METRICS = ("test_error_pct", "test_top5_error_pct", "params_m", "macs_m")


@dataclass(frozen=True)
class Logged:
    """What became of a run's model.

    Attributes:
        key: the run's hash.
        uri: `runs:/ID/model`, or "" where there is none.
        is_new: whether it was logged now.
        why: why there is none, one sentence.
    """

    key: str
    uri: str = ""
    is_new: bool = False
    why: str = ""


def log_models(folders: Sequence[Path], report: Callable[[str], None], uri: str | None = None) -> Iterator[Logged]:
    """Log the retrained network of each of some run folders, unless the store has it.

    Args:
        folders: run folders, those of a grid one after the other.
        report: called with what a user should read of a network.
        uri: the store; `tracking_uri()` if None.

    Errors:
        UserError: the environment asks MLflow for what a grid cannot do.
        HeldByAnother: another process logs models of a grid.
        OutsideFailure: the store cannot be reached or written.
    """
    uri = uri or tracking_uri()
    quiet_client()
    require_server(uri)
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    client = MlflowClient(uri)
    for grid, paths in groupby(folders, key=lambda path: path.parent):
        require_environment(grid.name)
        lock = Lock(grid / "models.lock", stale_s=300.0)
        if not lock.acquire(f"models of {grid.name}"):
            raise HeldByAnother(f"The logging of models of {grid.name}", str(lock.owner()), "Wait for it.")
        try:
            with lock.refreshing():
                yield from _log_grid(client, uri, list(paths), report)
        except MlflowException as error:
            what = f"Logging models in {shown(uri)}"
            raise OutsideFailure(what, one_line(error), f"Check {VARIABLE}, and do it again.") from error
        finally:
            lock.release()


def _log_grid(client: Any, uri: str, paths: list[Path], report: Callable[[str], None]) -> Iterator[Logged]:
    folder = paths[0].parent
    rows = {}
    database = sqlite_path(uri)
    experiment = None if database and not database.is_file() else client.get_experiment_by_name(folder.name)
    if experiment is not None and experiment.lifecycle_stage == "active":
        found = rows_of(client, uri, experiment.experiment_id, {path.name for path in paths})
        rows = {row.data.tags["cscdarts.hash"]: row for row in found}
    here = Home.of(folder)
    for path in paths:
        row = rows.get(path.name)
        home = None if row is None else home_of(row)
        if not RunFolder(path).has("result"):
            yield Logged(path.name, why="it has no result: it has not finished, or retrains nothing")
        elif row is None:
            yield Logged(path.name, why=f"the store has no row of it; cscdarts ablate watch {folder.name} makes one")
        elif home is not None and not home.is_here(here):
            yield Logged(path.name, why=f"its row in the store is of {home.shown}")
        else:
            yield _log_run(client, row, path, report)


def _log_run(client: Any, row: Any, path: Path, report: Callable[[str], None]) -> Logged:
    from cscdarts.export.source import of_run

    try:
        classifier = of_run(RunFolder(path), report)
    except UserError as error:
        return Logged(path.name, why=str(error))
    run_id, weights = row.info.run_id, classifier.card.weights_sha256
    earlier = models_of(client, row)
    uri = f"runs:/{run_id}/{NAME}"
    if any(str(one.status) == "READY" and one.tags.get(WEIGHTS) == weights for one in earlier):
        return Logged(path.name, uri)
    _write(client, row, classifier, path.name)
    # Only now: a model that was cut short never becomes ready, and one of other weights stays until it is replaced.
    for one in earlier:
        client.delete_logged_model(one.model_id)
    return Logged(path.name, uri, is_new=True)


def _write(client: Any, row: Any, classifier: "Classifier", key: str) -> None:
    from mlflow.entities import LoggedModelOutput, LoggedModelStatus

    run_id = row.info.run_id
    with tempfile.TemporaryDirectory() as made:
        made_model = client.create_logged_model(
            row.info.experiment_id, NAME, run_id, model_type="classifier",
            tags={WEIGHTS: classifier.card.weights_sha256, "hash": key, "grid": row.data.tags.get("grid", "")},
            params={"genotype": classifier.card.genotype, "space": classifier.card.space},
        )  # fmt: skip
        number = made_model.model_id
        with warnings.catch_warnings():
            # MLflow's, about a function of its own.
            warnings.filterwarnings("ignore", ".*Any type hint is inferred as AnyType", UserWarning)
            _save(classifier, Path(made) / NAME, run_id, number, made_model.artifact_location)
        client.log_outputs(run_id, [LoggedModelOutput(number, step=0)])
        client.log_model_artifacts(number, str(Path(made) / NAME))
        client.log_batch(run_id, metrics=list(_results(client, row, number)))
        client.finalize_logged_model(number, LoggedModelStatus.READY)


def _results(client: Any, row: Any, number: str) -> Iterator[Any]:
    """The run's results as the model's, tied to what they were measured on; the points are those that the run has."""
    from mlflow.entities import Metric

    tested = next((one.dataset for one in row.inputs.dataset_inputs if _is_test(one)), None)
    for name in _METRICS:
        if name in row.data.metrics:
            point = client.get_metric_history(row.info.run_id, name)[-1]
            yield Metric(
                name, point.value, point.timestamp, point.step, model_id=number,
                dataset_name=tested and tested.name, dataset_digest=tested and tested.digest,
            )  # fmt: skip


def _is_test(used: Any) -> bool:
    return any(tag.key == CONTEXT and tag.value == "testing" for tag in used.tags)


def _save(classifier: "Classifier", place: Path, run_id: str, number: str, location: str) -> None:
    """Write a model's folder: MLflow's files about the program, the program, and its card for people."""
    import hashlib

    import mlflow.pytorch
    import numpy as np
    import torch
    from mlflow.models import Model, ModelSignature
    from mlflow.types import Schema, TensorSpec

    from cscdarts.export.card import markdown
    from cscdarts.export.formats import FORMATS
    from cscdarts.export.writing import compared

    card = classifier.card
    shape = (card.images.channels, card.images.size, card.images.size)
    data = FORMATS[_FORMAT].load().write(classifier)
    compared(classifier, FORMATS[_FORMAT], place, data)
    kind = np.dtype("float32")
    signature = ModelSignature(Schema([TensorSpec(kind, (-1, *shape))]), Schema([TensorSpec(kind, (-1, card.classes))]))
    model = Model(artifact_path=location, model_uuid=number, run_id=run_id, model_id=number)
    mlflow.pytorch.save_model(
        classifier, str(place), mlflow_model=model, signature=signature, serialization_format="pt2",
        input_example=np.zeros((2, *shape), kind), pip_requirements=[f"torch=={torch.__version__.partition('+')[0]}"],
        metadata={"card": card.text()},
    )  # fmt: skip
    # Ours has the card inside and no lines of the source files of this machine.
    program = place / "data" / "model.pt2"
    program.write_bytes(data)
    (place / "card.md").write_text(markdown(card, program.name, hashlib.sha256(data).hexdigest()), encoding="utf-8")
    model.model_size_bytes = sum(path.stat().st_size for path in place.rglob("*") if path.is_file())
    model.save(str(place / "MLmodel"))
