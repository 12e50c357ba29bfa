"""A cluster profile as it may be shown: lines of shell and variables can hold any secret, so only what is known to hold
none is let through."""

import re
import shlex
from typing import Any

#: Variables whose values tell how a run computes.
_TOLD = re.compile(
    r"(?:OMP|MKL|OPENBLAS|NUMEXPR|NCCL|CUDA|TORCH|PYTORCH|KMP|GOMP)_[A-Z0-9_]+|PYTHON(?:UNBUFFERED|SAFEPATH|PATH|UTF8)"
    r"|LANG|LC_[A-Z]+|TMPDIR|CSCDARTS_(?:CACHE|COMMIT)|LD_LIBRARY_PATH|PATH"
)
#: Beginnings of a line of shell that is shown whole.
_SHOWN = re.compile(
    r"\s*(?:(?:module|ml)\s+(?:(?:load|purge|use|unload|swap|add)\b)?[\w\s./+-]*|conda\s+activate\s+[\w./-]+"
    r"|(?:source|\.)\s+[\w./~$-]+|set\s+[-+][euxo]+(?:\s+pipefail)?|cd\s+[\w./~$-]+|ulimit\s+-\w\s+\w+)\s*"
)
_EXPORT = re.compile(r"\s*(export\s+)?([A-Za-z_]\w*)=(.*)", re.DOTALL)
#: Options of sbatch whose values are not people's words, addresses or variables.
_OPTIONS = frozenset({
    "exclusive", "requeue", "no-requeue", "nodelist", "gpus", "gpus-per-task", "nice", "priority", "begin", "deadline",
    "contiguous", "oversubscribe", "hint", "distribution", "cpu-freq", "gpu-freq", "gpu-bind", "mem-bind", "licenses",
    "tmp", "mail-type", "switches", "threads-per-core", "cores-per-socket", "sockets-per-node", "ntasks", "spread-job",
    "propagate", "get-user-env", "signal", "prefer", "cluster-constraint", "core-spec", "network", "profile",
})  # fmt: skip
#: A word of a container's command that is shown.
_WORD = re.compile(
    r"--?[A-Za-z][\w-]*|(?:--(?:bind|home|pwd|workdir|mount)=)?[./~$][\w./:,~$-]*|(?:docker|library|oras)://[\w./:-]+"
    r"|apptainer|singularity|docker|podman|podman-hpc|enroot|shifter|charliecloud|srun|env|exec|run|start|shell|all"
)
LEFT_OUT = "left out"
#: Characters of a text that is hidden wherever it stands.
_SHORTEST = 6


def shown_profile(values: dict[str, Any]) -> dict[str, Any]:
    """A profile's values with everything hidden that might be a secret.

    Args:
        values: of a profile, by its own keys.
    """
    return {
        **values,
        "description": "",
        "setup": [_line(line) for line in values.get("setup") or ()],
        "environment": {name: value if _TOLD.fullmatch(name) else LEFT_OUT.upper().replace(" ", "_")
                        for name, value in (values.get("environment") or {}).items()},
        "extra": {name: value if name in _OPTIONS or isinstance(value, bool) else LEFT_OUT.replace(" ", "-")
                  for name, value in (values.get("extra") or {}).items()},
        "container": _command(values.get("container")),
    }  # fmt: skip


def hidden_texts(values: dict[str, Any]) -> tuple[str, ...]:
    """What `shown_profile` hides of a profile, as texts to be hidden wherever else they stand: a log may repeat them.

    Words of letters alone are left, as any sentence has such; so are paths.
    """
    found: set[str] = set()
    for name, value in (values.get("environment") or {}).items():
        found |= set() if told(name) else {value, *value.splitlines()}
    for line in values.get("setup") or ():
        if _line(line) != line:
            match = _EXPORT.fullmatch(line)
            words = re.findall(r"[^\s\"'=;|&<>()]+", line)
            found |= {line, match.group(3) if match else "", *(word for word in words if re.search(r"\d", word))}
    for name, value in (values.get("extra") or {}).items():
        found |= set() if name in _OPTIONS or isinstance(value, bool) else {str(value), *str(value).split("=")}
    container = str(values.get("container") or "")
    words = [word for word in container.split() if not _WORD.fullmatch(word)]
    found |= {part for word in words for part in (word, word.partition("=")[2])}
    bare = {text.strip().strip("\"'") for text in found}
    return tuple(sorted(text for text in bare if len(text) >= _SHORTEST and not re.match(r"[/~$.-]", text)))


def told(name: str) -> bool:
    """Whether an environment variable's value tells how a run computes and nothing else."""
    return _TOLD.fullmatch(name) is not None


def _line(line: str) -> str:
    if not line.strip() or _SHOWN.fullmatch(line):
        return line
    match = _EXPORT.fullmatch(line)
    if match is not None and _TOLD.fullmatch(match.group(2)) and re.fullmatch(r"[\w./:$\"{},-]*", match.group(3)):
        return line
    if match is not None:
        return f"{match.group(1) or ''}{match.group(2)}={LEFT_OUT.upper().replace(' ', '_')}"
    return f"# a line of {len(line)} characters, {LEFT_OUT}"


def _command(text: str | None) -> str | None:
    """The words before python, those that are no option, path, image or known command hidden."""
    if not text:
        return text
    try:
        words = shlex.split(text)
    except ValueError:
        return f"a command, {LEFT_OUT}"
    return " ".join(shlex.quote(word) if _WORD.fullmatch(word) else "..." for word in words)
