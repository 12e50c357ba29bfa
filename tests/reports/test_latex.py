"""All LaTeX of a report compiles under a real pdflatex in a two-column document, hostile names included."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from reports.build import Report, build_report
from reports.render.latex import escape
from tests.support.report_store import SyntheticStore, tiny

pytestmark = [pytest.mark.latex, pytest.mark.slow, pytest.mark.xdist_group("report")]

DOCUMENT = r"""\documentclass[twocolumn]{article}
\usepackage[T1]{fontenc}
\usepackage[utf8]{inputenc}
\usepackage{booktabs,graphicx}
\begin{document}
Text in two columns.
%s
\end{document}
"""


@pytest.fixture(scope="session")
def pdflatex() -> str:
    path = shutil.which("pdflatex")
    if path is None:
        pytest.skip("no pdflatex here (apt-get install texlive-latex-base texlive-latex-recommended)")
    return path


def compiled(pdflatex: str, folder: Path) -> str:
    """Compile every `.tex` of a report in one document; returns the log."""
    names = sorted(str(path.relative_to(folder)) for path in folder.rglob("*.tex"))
    assert names
    body = "\n".join(f"\\input{{{name}}}\n\\clearpage" for name in names)
    (folder / "document.tex").write_text(DOCUMENT % body, encoding="utf-8")
    done = subprocess.run(
        [pdflatex, "-interaction=nonstopmode", "-halt-on-error", "-no-shell-escape", "document.tex"],
        cwd=folder,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=300,
        check=False,
    )
    log = (folder / "document.log").read_text(errors="replace")
    assert done.returncode == 0, "\n".join(line for line in log.splitlines() if line.startswith(("!", "l.")))
    assert (folder / "document.pdf").stat().st_size > 10_000
    return log


def test_a_report_compiles_and_nothing_sticks_out(pdflatex: str, quick_report: Report, tmp_path: Path) -> None:
    folder = tmp_path / "report"
    shutil.copytree(quick_report.folder, folder)
    log = compiled(pdflatex, folder)
    for line in log.splitlines():
        if line.startswith("Overfull \\hbox"):
            assert float(line.split("(")[1].split("pt")[0]) < 3, line
    assert "Float too large" not in log


def test_hostile_names_compile(pdflatex: str, store: SyntheticStore, tmp_path: Path) -> None:
    nasty = 'a_b & 100% $x$ #1 ~ ^ {y} \\end{table} <z> "q" 中文 é ß Ω | `c` − ± …'
    tags = {f"cscdarts.{name}": nasty for name in ("hardware", "host", "data", "scale", "failure", "torch")}
    store.add(tiny(0), {"test_error_pct": 3.0}, methods=("csc", nasty.replace(",", "")), tags=tags)
    store.add(tiny(1), status="failed", tags=tags)
    made = build_report(["quickstart"], tmp_path / "report", uri=store.finish(), formats=("tex", "pdf"))
    compiled(pdflatex, made.folder)


def test_the_claims_keep_a_size_that_can_be_read(pdflatex: str, quick_report: Report, tmp_path: Path) -> None:
    """T0 has the longest texts: they are set in lines, so that the table is hardly scaled down to the page's width."""
    source = (quick_report.folder / "tables" / "t0_claims.tex").read_text()
    assert r"\begin{table*}" in source
    assert r"\parbox[t]" in source
    told = source.replace(r"\ifdim\wd0", r"\typeout{NATURAL \the\wd0 OF \the\textwidth}\ifdim\wd0")
    (tmp_path / "t0.tex").write_text(told, encoding="utf-8")
    log = compiled(pdflatex, tmp_path)
    natural, wanted = re.search(r"NATURAL ([\d.]+)pt *OF ([\d.]+)pt", log).groups()  # type: ignore[union-attr]
    assert float(natural) < 1.5 * float(wanted)


def test_two_hyphens_of_an_option_stay_two() -> None:
    assert escape("config --explain − – ---") == r"config -{}-explain $-$ -- -{}-{}-"
