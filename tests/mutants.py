"""The mutation run (`make mutants`): does a test fail when a line of the method is made wrong?

mutmut's operators make the mutants: another operator, number, string, constant or branch; an argument dropped or
replaced by None; a lambda or an assigned value replaced by None. What runs them is ours, because mutmut leaves
decorated functions alone (context managers, properties), copies functions behind trampolines that autograd and pickling
see, and picks tests by function:

* one process per module imports torch, all packages its tests need and those modules of the project that do not import
  it; each mutant is a fork of that process, in which an import hook hands out the mutated source and pytest runs;
* one run of the tests of a module, or of several that name the same ones, under coverage notes which test (or fixture)
  passes through which line and how long it takes; a mutant meets the tests that pass through its lines, the fastest
  first, until one fails or `--budget` seconds of tests have passed (what then still lives is a survivor);
* before its mutants a module meets two controls: as it is it has to pass, and impossible to import it has to fail;
* a fork that takes more than twenty times as long as its tests should, plus 60 s, hangs: that mutant counts as caught.

Which modules, and which tests speak for each, stands in `pyproject.toml` under `[tool.mutants]`. The record
`tests/mutants.json` keeps, per module, how many mutants were caught and each survivor with its reason; reasons are
written by hand into it and found again by the changed text. The exit code is 1 where fewer than 95 % are caught or a
survivor has no reason.
"""

import contextlib
import gc
import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import json
import os
import random
import signal
import sys
import time
import tomllib
import traceback
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import click

from tests.mutations import Mutant, Mutants

ROOT = Path(__file__).parents[1]
RECORD = ROOT / "tests" / "mutants.json"
#: Imported in the first process, before all forks, as they take longest.
PACKAGES = ("torch", "torch._dynamo", "numpy", "pytest", "coverage", "_pytest.assertion.rewrite")
OWN = ("cscdarts", "benchmarks", "reports", "slurm", "ablations")
BAR_PCT = 95.0


class _Handout(importlib.abc.MetaPathFinder, importlib.abc.SourceLoader):  # type: ignore[misc]  # as typeshed's own
    """Hands out a mutated source in place of one module's file."""

    def __init__(self, name: str, path: Path, source: str) -> None:
        self.name, self.path, self.source = name, path, source

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """The module's spec with this loader, None for all others."""
        return (
            importlib.util.spec_from_file_location(fullname, self.path, loader=self) if fullname == self.name else None
        )

    def get_filename(self, fullname: str) -> str:
        """The real file, so that tracebacks and coverage name it."""
        return str(self.path)

    def get_data(self, path: str | bytes) -> bytes:
        """The mutated source; caches have another path and are not found."""
        if str(path) != str(self.path):
            raise OSError(path)
        return self.source.encode()


class _Trace:
    """A pytest plugin: which test or fixture passes through which line of some files, how long each test takes, what
    fails."""

    def __init__(self, paths: Sequence[Path]) -> None:
        import coverage

        self.paths = [str(path) for path in paths]
        self.cover = coverage.Coverage(data_file=None, include=self.paths, config_file=False)
        self.seconds: dict[str, float] = {}
        self.fixtures: dict[str, list[str]] = {}
        self.failed: list[str] = []
        self.context = ""
        self.began = 0.0

    def _switch(self, context: str) -> str:
        before, self.context = self.context, context
        self.cover.switch_context(context)
        return before

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        """A test begins."""
        self._switch(nodeid)
        self.began = time.process_time()

    def pytest_runtest_logfinish(self, nodeid: str) -> None:
        """A test is over; its time is the processor's: a busy machine must not change which tests a mutant meets."""
        self._switch("")
        self.seconds[nodeid] = time.process_time() - self.began

    def pytest_fixture_setup(self, fixturedef: Any, request: Any) -> Iterator[None]:
        """What a fixture runs counts for every test that uses it."""
        before = self._switch(f"fixture {fixturedef.argname}")
        yield
        self._switch(before)

    pytest_fixture_setup = __import__("pytest").hookimpl(hookwrapper=True)(pytest_fixture_setup)

    def pytest_runtest_makereport(self, item: Any, call: Any) -> None:
        """Note the test's fixtures and whether it fails."""
        self.fixtures[item.nodeid] = list(item.fixturenames)
        if call.excinfo is not None and not call.excinfo.errisinstance(__import__("pytest").skip.Exception):
            self.failed.append(item.nodeid)

    def result(self) -> dict[str, Any]:
        """As JSON: seconds by test, failed tests, and tests by file and line (all for what import passes through)."""
        lines = {path: self._by_line(path) for path in self.paths}
        return {"seconds": self.seconds, "failed": self.failed, "lines": lines, "modules": list(sys.modules)}

    def _by_line(self, path: str) -> dict[int, list[str]]:
        return {
            line: [
                test
                for test, used in self.fixtures.items()
                if test in contexts or "" in contexts or any(f"fixture {name}" in contexts for name in used)
            ]
            for line, contexts in self.cover.get_data().contexts_by_lineno(path).items()
        }


def _pytest(arguments: Sequence[str], plugins: Sequence[object] = ()) -> int:
    import pytest

    os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    common = ["-q", "-x", "-p", "no:cacheprovider", "-m", "not slow"]
    return int(pytest.main([*common, *arguments], plugins=list(plugins)))


def _fork(work: Any, timeout: float) -> int | None:
    """Exit code of `work()` in a child whose output goes nowhere; None where it had to be killed."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            os.setsid()
            null = os.open(os.devnull, os.O_RDWR)
            if not os.environ.get("MUTANTS_SHOW"):
                for stream in (0, 1, 2):
                    os.dup2(null, stream)
            code = work()
        finally:
            os._exit(code)
    end = time.monotonic() + timeout
    while time.monotonic() < end:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child, signal.SIGKILL)  # what a failed test has left running
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.01)
    os.killpg(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return None


def trace(paths: Sequence[Path], tests: Sequence[str]) -> dict[str, Any]:
    """Run the tests of some modules once, unmutated.

    Errors:
        click.ClickException: they do not pass.
    """
    reading, writing = os.pipe()

    def work() -> int:
        plugin = _Trace(paths)
        plugin.cover.start()
        code = _pytest(tests, [plugin])
        plugin.cover.stop()
        with os.fdopen(writing, "w") as pipe:
            json.dump(plugin.result() | {"code": code}, pipe)
        return 0

    child = os.fork()
    if child == 0:
        os.close(reading)
        null = os.open(os.devnull, os.O_RDWR)
        if not os.environ.get("MUTANTS_SHOW"):
            for stream in (0, 1, 2):
                os.dup2(null, stream)
        try:
            work()
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        text = pipe.read()
    os.waitpid(child, 0)
    found: dict[str, Any] = json.loads(text) if text else {"code": 1, "failed": ["the run itself"]}
    if found["code"] != 0:
        raise click.ClickException(
            f"without any mutant the tests of {paths[0].name} fail: {', '.join(found['failed'][:3])}"
        )
    return found


def warm_up(name: str, modules: Sequence[str]) -> None:
    """Import what the tests import, in their order, but for the mutated module and all that import it."""
    import grimp

    graph = grimp.build_graph(OWN[0], *OWN[1:])
    mutated = {name, *graph.find_downstream_modules(name)}
    for module in modules:
        parts = module.split(".")
        if module in sys.modules or parts[0] in ("tests", "conftest"):
            continue
        # A package's own imports run before its modules': none below a package that imports the mutated module.
        if any(".".join(parts[:depth]) in mutated for depth in range(1, len(parts) + 1)):
            continue
        with contextlib.suppress(Exception):  # names that stand in sys.modules only, as `torch.ops` and its like
            importlib.import_module(module)
    if name in sys.modules:
        raise click.ClickException(f"{name} is imported before it can be mutated")
    gc.collect()
    gc.freeze()


def meet(name: str, path: Path, mutant: Mutant, traced: Mapping[str, Any], budget: float) -> str:
    """`caught`, `hangs`, `survives` or `unreached` (no test passes through its lines)."""
    seconds, lines = traced["seconds"], traced["lines"][str(path)]
    names = {test for line in range(mutant.first, mutant.last + 1) for test in lines.get(str(line), ())}
    if not names:  # a line in the middle of a statement, which coverage notes at one above
        start = max((int(line) for line in lines if int(line) < mutant.first), default=0)
        names = set(lines.get(str(start), ()))
    chosen: list[str] = []
    spent = 0.0
    # Of a line that import passes through all tests count: those that pass through others of the module come first.
    passing = {test for tests in lines.values() if len(tests) < len(seconds) for test in tests}
    for test in sorted(names, key=lambda test: (test not in passing, seconds[test], test)):
        if chosen and spent + seconds[test] > budget:
            break
        chosen.append(test)
        spent += seconds[test]
    if not chosen:
        return "unreached"

    def work() -> int:
        sys.meta_path.insert(0, _Handout(name, path, mutant.source))
        return int(_pytest(chosen) != 0)

    code = _fork(work, 60 + 20 * spent)
    return "hangs" if code is None else "survives" if code == 0 else "caught"


def require_sound(name: str, path: Path, traced: Mapping[str, Any]) -> None:
    """See that the tests meet what is handed out: the module as it is passes, one that cannot be imported fails.

    Errors:
        click.ClickException: they do not, so that no mutant's fate would mean anything.
    """
    source = path.read_text(encoding="utf-8")
    whole = range(1, len(source.splitlines()) + 1)
    for text, expected in ((source, "survives"), (f"raise ImportError('a mutant of {name}')\n{source}", "caught")):
        control = Mutant(whole.start, whole.stop - 1, "", expected, text)
        fate = meet(name, path, control, traced, budget=3.0)
        if fate != expected:
            raise click.ClickException(f"{name}: a mutant that {expected} by construction {fate}")


def say(line: str) -> None:
    """One line, at once: forks share what is not yet written."""
    print(line, flush=True)


def path_of(name: str) -> Path:
    """The file of a module."""
    return ROOT / f"{name.replace('.', '/')}.py"


def run_module(
    name: str, traced: Mapping[str, Any], old: Mapping[str, Any], share: float, budget: float
) -> dict[str, Any]:
    """Meet a module's mutants, all or a sample of them, and give its entry of the record."""
    path = path_of(name)
    every = Mutants(path.read_text(encoding="utf-8"))
    # Shuffled, so that a larger share holds all of a smaller one.
    order = list(range(len(every)))
    random.Random(f"mutants of {name}").shuffle(order)
    drawn = (every[number] for number in sorted(order[: max(1, round(share * len(every)))]))
    mutants = [mutant for mutant in drawn if mutant is not None]
    warm_up(name, traced["modules"])
    require_sound(name, path, traced)
    reasons = {entry["change"]: entry["reason"] for entry in old.get("survivors", ())}
    counts = {"caught": 0, "hangs": 0, "survives": 0, "unreached": 0}
    survivors = []
    started = time.monotonic()
    for number, mutant in enumerate(mutants):
        fate = meet(name, path, mutant, traced, budget)
        counts[fate] += 1
        if fate in ("survives", "unreached"):
            survivors.append(
                {"line": mutant.first, "fate": fate, "change": mutant.key, "reason": reasons.get(mutant.key, "")}
            )
            say(f"{name}:{mutant.first} {fate}: {mutant.key}")
        if number % 50 == 49:
            say(f"{name}: {number + 1} of {len(mutants)} mutants, {time.monotonic() - started:.0f} s")
    caught = 100 * (counts["caught"] + counts["hangs"]) / max(1, len(mutants))
    say(f"{name}: {caught:.1f} % of {len(mutants)} mutants caught, {time.monotonic() - started:.0f} s")
    size = {"mutants": len(mutants), "of": len(every), "share": share}
    return {**size, **counts, "caught_pct": round(caught, 1), "survivors": survivors}


def _in_a_process(name: str, traced: Mapping[str, Any], file: Path, share: float, budget: float) -> None:
    """Run one module in a process of its own, because what it imports must not be there for the next one."""
    child = os.fork()
    if child == 0:
        try:
            entries = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
            entries[name] = run_module(name, traced, entries.get(name, {}), share, budget)
            file.write_text(json.dumps(entries, indent=1, sort_keys=True) + "\n", encoding="utf-8")
        except click.ClickException as error:
            error.show()
            os._exit(1)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    if os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) != 0:
        raise SystemExit(1)


@click.command()
@click.argument("modules", nargs=-1)
@click.option(
    "--share", default=1.0, show_default=True, help="Share of each module's mutants, drawn with a fixed seed."
)
@click.option("--budget", default=20.0, show_default=True, help="Seconds of tests that one mutant meets at most.")
@click.option("--record", default=str(RECORD), show_default=True, help="JSON file that is read and written.")
def main(modules: tuple[str, ...], share: float, budget: float, record: str) -> None:
    """Make mutants of MODULES (dotted names; all of pyproject.toml unless given) and count those that tests catch."""
    os.chdir(ROOT)
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    table = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["mutants"]
    wanted = modules or tuple(table)
    unknown = [name for name in wanted if name not in table]
    if unknown:
        raise click.BadParameter(f"{unknown[0]}: one of {', '.join(table)}")
    for package in PACKAGES:
        importlib.import_module(package)
    file = Path(record)
    groups: dict[tuple[str, ...], list[str]] = {}
    for name in wanted:
        groups.setdefault(tuple(table[name]), []).append(name)
    for tests, group in groups.items():
        traced = trace([path_of(name) for name in group], tests)
        for name in group:
            _in_a_process(name, traced, file, share, budget)
    entries = json.loads(file.read_text(encoding="utf-8"))
    entries = {name: entries[name] for name in wanted}
    total = sum(entry["mutants"] for entry in entries.values())
    caught = 100 * sum(entry["caught"] + entry["hangs"] for entry in entries.values()) / total
    silent = [entry for found in entries.values() for entry in found["survivors"] if not entry["reason"]]
    click.echo(f"{caught:.1f} % of {total} mutants caught; {len(silent)} survivors without a reason")
    if caught < BAR_PCT or silent:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
