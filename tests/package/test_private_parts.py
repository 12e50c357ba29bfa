"""Canaries: what we use of MLflow and submitit that they promise nobody. One that fails says what to look at before the
upper bound in pyproject.toml is raised."""

import contextlib
import inspect
import sqlite3
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from ablations.mirror.bulk import _COLUMNS, BulkWriter
from ablations.mirror.database import newest_schema
from reports.read.database import TABLES, schema_of
from slurm.backends.slurm.profile import Profile
from slurm.backends.slurm.submit import sbatch_script

ROOT = Path(__file__).parents[2]
#: Columns that our own SQL names, beside those that the bulk writer fills.
READ = {
    "experiments": {"experiment_id", "name", "artifact_location", "lifecycle_stage"},
    "runs": {"run_uuid", "experiment_id", "artifact_uri", "start_time", "end_time", "lifecycle_stage"},
    "tags": {"run_uuid", "key", "value"},
    "params": {"run_uuid", "key", "value"},
    "latest_metrics": {"run_uuid", "key", "value", "is_nan"},
    "alembic_version": {"version_num"},
}


@pytest.mark.parametrize("name", ["mlflow", "submitit"])
def test_the_installed_version_is_one_that_these_tests_have_seen(name: str) -> None:
    """And the bound is one: of an open range the next release would be taken unseen."""
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    (asked,) = [found for texts in extras.values() for text in texts if (found := Requirement(text)).name == name]
    assert any(one.operator == "<" for one in asked.specifier), f"{asked} has no upper bound"
    version = metadata.version(name)
    assert version in asked.specifier, (
        f"{name} {version} is installed, and pyproject.toml asks for {asked}: we use parts of it that it may change at "
        "any time. If the other tests of this module and tests/ablations/mirror pass with it, raise the bound."
    )


def test_mlflow_still_has_the_tables_that_we_write_by_sql(empty_store: Path) -> None:
    writer = BulkWriter.for_uri(f"sqlite:///{empty_store}")
    assert writer is not None, (
        "MLflow's tables, `_get_store` or `ManagedSessionMaker` have changed: ablations/mirror/bulk.py no longer knows "
        "them, and mirrors run by run, seven commits for each."
    )
    for name, columns in _COLUMNS.items():
        table = writer._tables[name]
        asked = {
            one.name for one in table.columns if not one.nullable and one.default is None and not one.server_default
        }
        assert asked <= set(columns), f"{table.name} now wants {asked - set(columns)}: ablations/mirror/bulk.py"
    assert writer._store.sanitize_metric_value(float("nan")) == (True, 0), "how MLflow stores what is no number"


def test_mlflow_still_has_the_columns_that_we_read_by_sql(empty_store: Path) -> None:
    with contextlib.closing(sqlite3.connect(empty_store)) as database:
        for table, columns in READ.items():
            found = {str(row[1]) for row in database.execute(f"PRAGMA table_info({table})")}
            assert columns <= found, (
                f"{table} lacks {columns - found}: reports/read/store.py, ablations/mirror/places.py"
            )
    assert set(READ) | {"metrics"} == TABLES


def test_mlflow_still_tells_its_schema(empty_store: Path) -> None:
    assert schema_of(empty_store) == newest_schema() != "", (
        "`mlflow.store.db.utils._get_latest_schema_revision` is gone, or is no longer what a new store has: "
        "ablations/mirror/database.py would let a store of another schema pass."
    )


def test_the_script_that_submitit_writes_still_has_the_form_that_our_jobs_rely_on(tmp_path: Path) -> None:
    script = sbatch_script(Profile(setup=("module load x",)), tmp_path, "name", 3, 2, "afterok:7")
    look = f"submitit's script has another form: slurm/backends/slurm/submit.py, shell.py\n{script}"
    lines = script.splitlines()
    assert lines[0] == "#!/bin/bash", look
    flags = dict(line.removeprefix("#SBATCH --").partition("=")[::2] for line in lines if line.startswith("#SBATCH"))
    assert (flags["job-name"], flags["array"], flags["dependency"]) == ("name", "0-2%2", "afterok:7"), look
    assert (flags["open-mode"], flags["signal"].partition("@")[0]) == ("append", "USR2"), look
    assert flags["output"].strip("'") == f"{tmp_path}/%A_%a_0_log.out", look
    (place,) = [number for number, line in enumerate(lines) if line.startswith("srun --unbuffered --output ")]
    assert lines.index("module load x") < place, look
    assert lines[place].endswith(f"-u -m submitit.core._submit {tmp_path}"), look
    assert not [line for line in lines[place + 1 :] if line.strip()], look


def test_submitit_still_takes_the_words_that_we_start_python_with(tmp_path: Path) -> None:
    import submitit
    from submitit.core.utils import JobPaths
    from submitit.slurm.slurm import SlurmJobEnvironment

    for kind in (submitit.SlurmExecutor, submitit.LocalExecutor):
        assert "python" in inspect.signature(kind).parameters, kind
        command = kind(tmp_path, python="words of ours")._submitit_command_str
        assert command == f"words of ours -u -m submitit.core._submit {tmp_path}", (
            f"{kind.__name__} starts its jobs otherwise: slurm/backends/, `python_words` of slurm/job.py"
        )
    paths = JobPaths(tmp_path, "7_1", 0)
    assert (paths.stderr.name, paths.result_pickle.name) == ("7_1_0_log.err", "7_1_0_result.pkl"), (
        "submitit names its files otherwise: slurm/backends/slurm/submit.py, slurm/job.py"
    )
    assert SlurmJobEnvironment.USR_SIG == "USR2", (
        "the signal before a limit: slurm/job.py, slurm/backends/slurm/shell.py"
    )
