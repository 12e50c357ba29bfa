"""Memory, cores and limits of this machine, as far as a container or a session leaves them to us."""

import os
import resource
from collections.abc import Iterator
from pathlib import Path

from ablations.doctor.finding import Finding, bad, good, weak
from ablations.doctor.question import Question
from slurm.devices import usable_cores

GIB = 2**30
#: Bytes: below the first no run fits, below the second only small ones.
LEAST_MEMORY, LITTLE_MEMORY = 1 * GIB, 2 * GIB
#: A run, its data workers and the mirror together hold some dozens of files.
FEW_FILES, LEAST_FILES = 256, 48
CGROUPS = Path("/sys/fs/cgroup")
OWN_CGROUPS = Path("/proc/self/cgroup")
SHARED_MEMORY = Path("/dev/shm")


def available_bytes() -> tuple[int, str]:
    """Memory that can still be had, and what bounds it: `this machine`, or a limit that a container, a job or a
    session has set."""
    import psutil

    free, by = int(psutil.virtual_memory().available), "this machine"
    for limit, used in cgroup_memory():
        if limit - used < free:
            free, by = max(0, limit - used), f"a container or job of {limit / GIB:.1f} GiB"
    address, _ = resource.getrlimit(resource.RLIMIT_AS)
    if address != resource.RLIM_INFINITY and address < free:
        free, by = address, f"`ulimit -v` of {address / GIB:.1f} GiB"
    return free, by


def cgroup_memory(root: Path = CGROUPS, own: Path = OWN_CGROUPS) -> list[tuple[int, int]]:
    """(limit, used) in bytes of each control group that holds this process and has a limit."""
    found = []
    for folder, names in _groups(root, own, "memory"):
        limit, used = (_number(folder / name) for name in names)
        if limit is not None and limit < 2**60:
            found.append((limit, min(used or 0, limit)))
    return found


def cgroup_cores(root: Path = CGROUPS, own: Path = OWN_CGROUPS) -> float | None:
    """Cores' worth of time that control groups leave to this process; None where they set no bound."""
    found = []
    for folder, _ in _groups(root, own, "cpu"):
        try:
            words = (folder / "cpu.max").read_text().split()
        except OSError:
            words = [str(_number(folder / f"cpu.cfs_{name}_us") or "") for name in ("quota", "period")]
        if len(words) == 2 and all(word.isdigit() for word in words) and int(words[0]) > 0 and int(words[1]) > 0:
            found.append(int(words[0]) / int(words[1]))
    return min(found, default=None)


def _groups(root: Path, own: Path, controller: str) -> Iterator[tuple[Path, tuple[str, str]]]:
    """The folders of this process's control groups up to the root, with the names of limit and use in them."""
    try:
        lines = own.read_text().splitlines()
    except OSError:
        return
    for line in lines:
        number, controllers, place = (*line.split(":", 2), "", "")[:3]
        if number == "0" and not controllers:
            top, names = root, ("memory.max", "memory.current")
        elif controller in controllers.split(","):
            top, names = root / controllers, ("memory.limit_in_bytes", "memory.usage_in_bytes")
            top = top if top.is_dir() else root / controller
        else:
            continue
        inner = top / place.lstrip("/")
        # Inside a container the path is the host's, and only the top is to be seen.
        for folder in (inner, *inner.parents):
            if folder.is_dir():
                yield folder, names
            if folder == top:
                break


def _number(path: Path) -> int | None:
    try:
        text = path.read_text().strip()
    except OSError:
        return None
    return int(text) if text.isdigit() else None


def memory(_: Question) -> Iterator[Finding]:
    """Main memory that runs can have."""
    free, by = available_bytes()
    told = f"{free / GIB:.1f} GiB can be had, by {by}"
    if free < LEAST_MEMORY:
        yield bad("memory", f"{told}: too little for any run.", "End what holds it, or ask for more.")
    elif free < LITTLE_MEMORY:
        yield weak("memory", f"{told}: enough for one small run.", "--parallel 1, or ask for more.")
    else:
        yield good("memory", f"{told}.")


def cores(_: Question) -> Iterator[Finding]:
    """Cores that are seen against those that are given."""
    seen, given = usable_cores(), cgroup_cores()
    if given is not None and given < seen:
        whole = max(1, int(given))
        way = f"--parallel {whole}, and OMP_NUM_THREADS={whole}: as many workers as cores are seen would wait in turn."
        yield weak("cores", f"{seen} are seen, and the container or job gives the time of {given:g}.", way)
    else:
        yield good("cores", f"{seen} of {os.cpu_count() or seen} can be used.")


def limits(_: Question) -> Iterator[Finding]:
    """What `ulimit` bounds."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    may = hard == resource.RLIM_INFINITY or hard > soft
    more = (
        f"ulimit -n {min(hard, 4096) if hard > 0 else 4096}" if may else "Ask who runs this machine for a higher limit."
    )
    told = f"{soft} files can be open at once"
    if soft != resource.RLIM_INFINITY and soft < LEAST_FILES:
        yield bad("limits", f"{told}: too few for any run.", more)
    elif soft != resource.RLIM_INFINITY and soft < FEW_FILES:
        yield weak("limits", f"{told}: too few for several workers that load images.", more)
    else:
        yield good(
            "limits", f"{'Any number of' if soft == resource.RLIM_INFINITY else soft} files can be open at once."
        )
    size, _hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    if size != resource.RLIM_INFINITY:
        yield weak("limits", f"No file may grow beyond {size / GIB:.2f} GiB (ulimit -f).", "ulimit -f unlimited")


def shared_memory(_: Question) -> Iterator[Finding]:
    """The shared memory through which workers hand on the images that they load."""
    try:
        found = os.statvfs(SHARED_MEMORY)
    except OSError as error:
        yield weak("shared memory", f"{SHARED_MEMORY} cannot be used: {error.strerror}.", "runtime.workers=0")
        return
    free = found.f_bavail * found.f_frsize
    if free < 512 * 2**20:
        way = "In a container: --shm-size=8g (Docker) or --bind /dev/shm (Apptainer); or runtime.workers=0."
        told = f"{free / 2**20:.0f} MiB are free in {SHARED_MEMORY}: loading images of ImageNet's size needs more."
        yield weak("shared memory", told, way)
    else:
        yield good("shared memory", f"{free / GIB:.1f} GiB are free in {SHARED_MEMORY}.")


CHECKS = {"memory": memory, "cores": cores, "limits": limits, "shared memory": shared_memory}
