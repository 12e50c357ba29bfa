"""What an export holds of a run: made from its run folder alone, the same for every kind of file."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ablations.grid.load import Grid, Point
from ablations.mirror.description import description, drawing
from ablations.mirror.records import Records
from ablations.mirror.tags import notes, search_tags
from ablations.mirror.updates import RESULTS, run_name
from ablations.run.stages import OUTPUTS, stages_of
from ablations.run.state import RunState, Status
from cscdarts.errors import UserError
from cscdarts.records.run_folder import RunFolder, read_record
from cscdarts.settings.config import hashed_values
from cscdarts.settings.metrics import METRICS
from cscdarts.settings.overrides import dotted_texts
from cscdarts.spaces import Genotype, parse_genotype


@dataclass(frozen=True)
class Line:
    """A number at an epoch.

    Attributes:
        epoch: counted within its stage, from 0; time: seconds since 1970.
    """

    stage: str
    metric: str
    epoch: int
    time: float
    value: float


@dataclass(frozen=True)
class RunContent:
    """A run as an export holds it.

    Attributes:
        key, name, grid: of the run; status: `done`, `failed` or `pending`.
        settings: every setting that can change a number, as texts.
        tags: as in the search box of MLflow.
        lines: curves by stage, metric and epoch; where a resumed run repeats an epoch, the last.
        results: numbers of the whole run.
        genotype, drawing: the cell as text and in characters; "" before there is one.
        note: the run in Markdown; notes: what the stages noted.
    """

    key: str
    name: str
    grid: str
    status: str
    settings: dict[str, str]
    tags: dict[str, str]
    lines: tuple[Line, ...]
    results: dict[str, float]
    genotype: str
    space: str
    drawing: str
    note: str
    notes: str

    @property
    def cell(self) -> Genotype | None:
        """The cell, where its space is known here."""
        try:
            return parse_genotype(self.genotype, self.space) if self.genotype else None
        except UserError:
            return None


def content_of(path: Path) -> RunContent:
    """Read a run folder.

    Errors:
        UserError: it holds no run, or its records cannot be read.
    """
    folder = RunFolder(path)
    config = folder.config()
    point = Point(config, config.hash, (config.labels.method or "run",))
    grid = Grid(path.parent.name, config.labels.scale, {}, (point,), path.parent)
    for name in ("environment.json", *RESULTS):
        read_record(folder.file(name))  # torn records are refused; the mirror passes over them
    records = Records(folder)
    ended = folder.file(f"{OUTPUTS[stages_of(config)[-1]]}.json").exists()
    why = read_record(folder.file("failure.json")) or {}
    status: Status = "done" if ended else "failed" if why else "pending"
    cell = records["genotype.json"]
    text, space = str(cell.get("text") or ""), str(cell.get("space") or "")
    state = RunState(point.hash, status, detail=str(why.get("message") or ""))
    return RunContent(
        key=point.hash,
        name=run_name(point),
        grid=grid.name,
        status=status,
        settings=dict(dotted_texts(hashed_values(config))),
        tags=search_tags(grid, point, status),
        lines=tuple(_lines(folder)),
        results=dict(_results(records)),
        genotype=text,
        space=space,
        drawing=drawing(text, space) if text else "",
        note=description(grid, point, records, status, state),
        notes=notes(records),
    )


def _lines(folder: RunFolder) -> Iterator[Line]:
    curves = sorted(folder.curves(), key=lambda line: (line["stage"], line["epoch"]))
    for line in curves:
        for metric, value in line["values"].items():
            if metric in METRICS and isinstance(value, int | float):
                yield Line(line["stage"], metric, int(line["epoch"]), float(line["time"]), float(value))


def _results(records: Records) -> Iterator[tuple[str, float]]:
    for name in RESULTS:
        for key, value in records.values(name).items():
            if key in METRICS and isinstance(value, int | float) and not isinstance(value, bool):
                yield key, float(value)


def picture_of(cell: Genotype, title: str) -> Any:
    """The cell drawn as (height, width, 3) of uint8."""
    import io

    import numpy as np
    from PIL import Image

    from reports.figures.genotype import figure
    from reports.figures.style import png

    return np.asarray(Image.open(io.BytesIO(png(figure(cell, title)))).convert("RGB"))
