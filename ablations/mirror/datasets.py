"""What a run learned from and was tested on, as MLflow's dataset inputs: the parts of its data sets, by our
fingerprints.

A part is made from the run's records alone. Its digest is the SHA-256 of the data as the engine read them (its first 16
digits); of a half that the search learned from it is one over that, the searched share and the seed of the halves, so
that equal digests mean equal images.
"""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from ablations.grid.load import Point
from ablations.mirror.records import Records, as_dict
from cscdarts.data.limits import KNOWN_SETS

#: MLflow's name of the tag that says what a data set was for.
CONTEXT = "mlflow.data.context"
#: Longest digest that MLflow takes is 36; ours are the first digits of a SHA-256.
_DIGITS = 16

#: Data set -> MLflow's kind of source, and the source. Image folders lie where `runtime.data_root` says.
_PACKAGED = {"mlflow.source.type": "PACKAGE", "mlflow.source.name": "sklearn.datasets.load_digits"}
_SOURCES: dict[str, tuple[str, dict[str, Any]]] = {
    "digits": ("code", {"tags": _PACKAGED}),
    "fashion-mnist": ("http", {"url": "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/"}),
    "cifar10": ("http", {"url": "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz"}),
    "cifar100": ("http", {"url": "https://www.cs.toronto.edu/~kriz/cifar-100-python.tar.gz"}),
}


@dataclass(frozen=True)
class Part:
    """A part of a data set that a run used, in the form in which MLflow keeps it.

    Attributes:
        name: `LABEL/train`, `LABEL/test`, or of a half of the search `LABEL/search-weights` and `LABEL/search-alphas`.
        digest: see above.
        source_type, source: MLflow's kind of source, and the source as JSON.
        schema, profile: JSON.
        context: `training`, `validation` or `testing`.
    """

    name: str
    digest: str
    source_type: str
    source: str
    schema: str
    profile: str
    context: str


def parts_of(point: Point, records: Records) -> list[Part]:
    """The parts that a run has used so far, as far as its records tell; older records, which name no data, have
    none."""
    found = []
    if point.config.search.trains_supernet:
        found += list(_halves(point, as_dict(records["search.json"].get("data"))))
    found += list(_retraining(point, as_dict(records["result.json"].get("data"))))
    return found


def _halves(point: Point, record: dict[str, Any]) -> Iterator[Part]:
    """The half for the weights and the half for the architecture parameters."""
    if not _told(record):
        return
    share, seed = point.config.data.search_fraction, point.config.data.split_seed
    digest = hashlib.sha256(f"{record['sha256']} {share!r} {seed}".encode()).hexdigest()
    total = _searched(record, share)
    uses = (("weights", "training", "weights", 1), ("alphas", "validation", "architecture parameters", 0))
    for name, context, learns, odd in uses:
        profile: dict[str, Any] = {"role": f"the half of the search that its {learns} learn from"}
        if total is not None:
            profile["images"] = (total + odd) // 2
        profile |= {"share_of_training_images": share, "split_seed": seed}
        yield _part(point, record, f"search-{name}", digest, profile, context)


def _retraining(point: Point, record: dict[str, Any]) -> Iterator[Part]:
    if not _told(record):
        return
    for name, context, role in (
        ("train", "training", "what the derived network was retrained on"),
        ("test", "testing", "what the retrained network was tested on, once"),
    ):
        profile = {"role": role, "images": record.get(f"{name}_images")}
        yield _part(point, record, name, str(record["sha256"]), profile, context)


def _told(record: dict[str, Any]) -> bool:
    return all(record.get(name) for name in ("dataset", "label", "sha256", "classes", "image_size", "mean"))


def _searched(record: dict[str, Any], share: float) -> int | None:
    """Images in both halves together; None where only the counts of each class would tell, which no record holds."""
    if share == 1:
        return int(record["train_images"])
    known = KNOWN_SETS.get(str(record["dataset"]))
    return None if known is None else sum(min(count, max(2, round(share * count))) for count in known[0])


def _part(point: Point, record: dict[str, Any], name: str, digest: str, profile: dict[str, Any], context: str) -> Part:
    dataset, channels, size = str(record["dataset"]), len(record["mean"]), int(record["image_size"])
    told = {
        **profile,
        "classes": int(record["classes"]),
        "image_size": f"{channels} x {size} x {size}",
        "sha256": record["sha256"],
        "fingerprint": point.config.data.fingerprint_of(dataset),
        "class_names": ", ".join(map(str, record.get("class_names") or ())),
        "mean": record["mean"],
        "std": record.get("std"),
        "notes": "; ".join(map(str, record.get("notes") or ())),
    }
    kind, source = _SOURCES.get(dataset, ("local", {"uri": point.config.runtime.data_root}))
    return Part(
        f"{record['label']}/{name}"[:500], digest[:_DIGITS], kind, json.dumps(source, sort_keys=True),
        _schema(channels, size), json.dumps({key: value for key, value in told.items() if value}), context,
    )  # fmt: skip


def _schema(channels: int, size: int) -> str:
    """MLflow's schema of arrays: normalised images (n, c, h, w) and labels (n,)."""
    images = [{"type": "tensor", "tensor-spec": {"dtype": "float32", "shape": [-1, channels, size, size]}}]
    labels = [{"type": "tensor", "tensor-spec": {"dtype": "int64", "shape": [-1]}}]
    return json.dumps({"mlflow_tensorspec": {"features": json.dumps(images), "targets": json.dumps(labels)}})


def as_inputs(parts: list[Part]) -> list[Any]:
    """The parts as the client takes them."""
    from mlflow.entities import Dataset, DatasetInput, InputTag

    return [
        DatasetInput(
            Dataset(
                name=one.name, digest=one.digest, source_type=one.source_type, source=one.source, schema=one.schema,
                profile=one.profile,
            ),
            [InputTag(CONTEXT, one.context)],
        )
        for one in parts
    ]  # fmt: skip
