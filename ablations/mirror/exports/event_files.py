"""TensorBoard: one folder of event files for each run."""

from pathlib import Path

from ablations.mirror.exports.content import RunContent, picture_of

#: What it needs beside the package.
PACKAGES = ("tensorboard",)


def write(runs: list[RunContent], out: Path) -> None:
    """Write `out/GRID/HASH/`: curves by epoch at the times that the run had, settings with results, texts, the cell."""
    from torch.utils.tensorboard import SummaryWriter

    for run in runs:
        began = min((line.time for line in run.lines), default=0.0)
        # The writer puts the present time into each event that names none.
        with SummaryWriter(str(out / run.grid / run.key)) as writer:
            for line in run.lines:
                writer.add_scalar(f"{line.stage}/{line.metric}", line.value, line.epoch, walltime=line.time)
            for name, value in run.results.items():
                writer.add_scalar(f"result/{name}", value, 0, walltime=began)
            writer.add_text("description", run.note, walltime=began)
            if run.drawing:
                writer.add_text("cell", f"```\n{run.drawing}\n```", walltime=began)
            cell = run.cell
            if cell is not None:
                picture = picture_of(cell, run.name)
                writer.add_image("cell", picture, dataformats="HWC", walltime=began)
            results = {f"result/{name}": value for name, value in run.results.items()}
            # In the run's own folder, so that settings and curves are one run to TensorBoard.
            writer.add_hparams({**run.settings, **run.tags}, results, run_name=".", global_step=0)
