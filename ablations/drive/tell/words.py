"""How a run, its state and a length of time are named to people, and in which colours."""

from ablations.grid.load import Point
from ablations.run.state import RunState

STYLES = {
    "done": "green", "running": "cyan", "pending": "yellow", "preempted": "magenta", "new": "dim", "failed": "red",
    "lost": "red", "cancelled": "dim red", "damaged": "red",
}  # fmt: skip


def duration(seconds: float | None) -> str:
    """`75` -> 1:15, `4000` -> 1 h 07, unknown -> a dash."""
    if seconds is None or seconds != seconds:
        return "–"
    whole = round(seconds)
    return f"{whole // 60}:{whole % 60:02d}" if whole < 3600 else f"{whole // 3600} h {whole % 3600 // 60:02d}"


def label(point: Point) -> str:
    """What distinguishes a run, in a few words."""
    supernet, search = point.config.supernet, point.config.search
    what = f"r={supernet.split_ratio} identity={supernet.identity} order={search.order}"
    return f"{'/'.join(point.methods)} {what} seed={point.config.seed}"


def brief(point: Point) -> str:
    """`label` for narrow places: method, ratio, identity, order and seed."""
    supernet, search = point.config.supernet, point.config.search
    return (
        f"{'/'.join(point.methods)} r={supernet.split_ratio} {supernet.identity} o{search.order} s{point.config.seed}"
    )


def kind_of(state: RunState) -> str:
    """A run's state, of a failed one with the kind of failure."""
    return f"{state.status} ({state.kind})" if state.status == "failed" else state.status
