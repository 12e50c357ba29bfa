"""The report as files: the same store gives the same bytes, all of it appears or nothing does, links lead somewhere."""

import re
from pathlib import Path

import pytest

from cscdarts.errors import UserError
from reports.build import Report, build_report
from tests.support.report_store import SyntheticStore, tiny

pytestmark = pytest.mark.xdist_group("report")


def test_the_same_store_gives_the_same_bytes(quick: SyntheticStore, quick_report: Report, tmp_path: Path) -> None:
    again = build_report(["quickstart"], tmp_path / "again", uri=quick.uri)
    assert again.written == quick_report.written
    assert {name.rsplit(".", 1)[-1] for name in again.written} >= {"csv", "tex", "html", "md", "pdf", "png", "json"}
    for name in again.written:
        assert (again.folder / name).read_bytes() == (quick_report.folder / name).read_bytes(), name


def test_written_names_are_what_is_there(quick_report: Report) -> None:
    present = {str(path.relative_to(quick_report.folder)) for path in quick_report.folder.rglob("*") if path.is_file()}
    assert present - {".cscdarts-report"} == set(quick_report.written)


def test_all_tables_and_figures_are_there(quick_report: Report) -> None:
    page = (quick_report.folder / "index.html").read_text()
    for number in ("T1", "T2", "T3", "T4", "T5", "T6a", "T6b", "T6c", "T7"):
        assert f">{number} · " in page
    for number in ("F1", "F2", "F3", "F4", "F5", "F6", "F7", "F8", "F9"):
        assert f"<strong>{number} · " in page
    assert quick_report.lacking == []


def test_links_lead_somewhere(quick_report: Report) -> None:
    pages = list(quick_report.folder.rglob("*.html"))
    ids = {path: set(re.findall(r'\bid="([^"]+)"', path.read_text())) for path in pages}
    for path in pages:
        targets = re.findall(r'\bhref="([^"]+)"', path.read_text())
        for target in targets:
            if target == "data:,":
                continue
            place, _, anchor = target.partition("#")
            to = (path.parent / place).resolve() if place else path
            assert to.is_file(), (path, target)
            if anchor:
                assert anchor in ids[to], (path, target)


def test_no_id_stands_twice(quick_report: Report) -> None:
    found = re.findall(r'\bid="([^"]+)"', (quick_report.folder / "index.html").read_text())
    assert len(found) == len(set(found))


def test_page_is_self_contained(quick_report: Report) -> None:
    page = (quick_report.folder / "index.html").read_text()
    assert not re.search(r'(src|srcset|poster)="|@import|url\(\s*["\']?(?!#)', page)
    assert "http://" not in page.replace("http://www.w3.org/2000/svg", "").replace("http://www.w3.org/1999/xlink", "")


def test_figures_embed_their_fonts(quick_report: Report) -> None:
    for path in sorted(quick_report.folder.glob("figures/*.pdf")):
        data = path.read_bytes()
        assert b"/FontFile2" in data, path
        assert b"/Type3" not in data, path
        assert b"/CreationDate" not in data, path
        assert b"/Subtype /Image" not in data, path


def test_each_run_has_a_page_with_its_evidence(quick_report: Report) -> None:
    page = (quick_report.folder / "runs" / f"{tiny(1).hash}.html").read_text()
    for text in (
        "0123456789abcdef",
        "Example CPU, 2 cores",
        "search begins",
        "test error",
        "supernet.space",
        "polyline",
    ):
        assert text in page, text
    assert "<svg" in page


def test_formats_limit_what_is_written(quick: SyntheticStore, tmp_path: Path) -> None:
    made = build_report(["quickstart"], tmp_path / "only", uri=quick.uri, formats=("csv",))
    assert {name.rsplit(".", 1)[-1] for name in made.written} == {"csv", "json"}
    with pytest.raises(UserError, match="'docx' is not valid; allowed: csv, tex, html, md, pdf, png"):
        build_report(["quickstart"], tmp_path / "x", uri=quick.uri, formats=("docx",))
    assert not (tmp_path / "x").exists()


def test_an_earlier_report_is_replaced_and_nothing_else(quick: SyntheticStore, tmp_path: Path) -> None:
    out = tmp_path / "report"
    build_report(["quickstart"], out, uri=quick.uri, formats=("csv", "md"))
    (out / "notes.md").write_text("mine")
    build_report(["quickstart"], out, uri=quick.uri, formats=("md",))
    assert sorted(path.name for path in out.iterdir()) == [".cscdarts-report", "notes.md", "report.json", "report.md"]
    other = tmp_path / "thesis"
    other.mkdir()
    (other / "chapter.tex").write_text("mine")
    with pytest.raises(UserError, match="an earlier report"):
        build_report(["quickstart"], other, uri=quick.uri, formats=("md",))
    assert [path.name for path in other.iterdir()] == ["chapter.tex"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["report", "thesis"]


def test_nothing_half_written_when_it_breaks(
    quick: SyntheticStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*arguments: object) -> str:
        raise RuntimeError("disk full")

    monkeypatch.setattr("reports.build._markdown", broken)
    with pytest.raises(RuntimeError, match="disk full"):
        build_report(["quickstart"], tmp_path / "report", uri=quick.uri, formats=("csv", "md"))
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_made_is_named(quick: SyntheticStore, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"report cannot be written: File exists\. Choose another place with --out"):
        build_report(["quickstart"], tmp_path / "file" / "report", uri=quick.uri, formats=("md",))
