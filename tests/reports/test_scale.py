"""5,000 runs in one report: every one is in it, memory stays below 1 GB. The time is printed, not asserted."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.report_store import SyntheticStore, add_synthetic, clone_runs, tiny

RUNS = 5000
SCRIPT = """
import re, sys, time
from pathlib import Path
from reports.build import build_report
began, busy = time.perf_counter(), time.process_time()
made = build_report(["quickstart"], Path(sys.argv[2]), uri=sys.argv[1])
spent = f"{time.perf_counter() - began:.1f} s, of them {time.process_time() - busy:.1f} s of CPU"
# Not ru_maxrss: a child begins with its parent's.
peak = int(re.search(r'VmHWM:\\s+(\\d+)', Path('/proc/self/status').read_text())[1]) // 1024
print(len(made.written), peak, spent)
"""


@pytest.mark.slow
def test_thousands_of_runs(store: SyntheticStore, tmp_path: Path) -> None:
    template = add_synthetic(store, tiny(0, search__epochs=50), ["csc"], 3.2, 0.5, 2)
    clone_runs(store, template, RUNS)
    uri = store.finish()
    command = [sys.executable, "-c", SCRIPT, uri, str(tmp_path / "report")]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(__file__).parents[2],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    written, memory_mib, spent = done.stdout.strip().split(" ", 2)
    print(f"{RUNS + 1} runs: {written} files, {memory_mib} MiB, {spent}")
    pages = list((tmp_path / "report" / "runs").glob("*.html"))
    assert len(pages) == RUNS + 1
    assert int(memory_mib) < 1024
    assert (tmp_path / "report" / "index.html").read_text().count('id="run-') == RUNS + 1
