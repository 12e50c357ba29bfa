"""The pages under docs/ say what is so: modules, links, line lengths."""

import ast
import re
import textwrap
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("cscdarts", "slurm", "benchmarks", "ablations", "reports")
ARCHITECTURE = ROOT / "docs" / "architecture.md"
WIDTH = 120
BEGIN, END = "<!-- modules -->", "<!-- end of modules -->"


def first_sentence(path: Path) -> str:
    """The first sentence of a module's docstring."""
    text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    return re.split(r"(?<=\.)\s+(?=[A-Z`])|\n\n", text.strip(), maxsplit=1)[0].replace("\n", " ")


def module_list() -> str:
    """Every module with its first sentence, folder by folder, as Markdown."""
    lines: list[str] = []
    for package in PACKAGES:
        folder: Path | None = None
        for path in sorted((ROOT / package).rglob("*.py"), key=lambda one: (one.parent.parts, one.name)):
            if path.name == "__init__.py":
                continue
            if path.parent != folder:
                folder = path.parent
                lines += ["", f"**{folder.relative_to(ROOT).as_posix()}/**", ""]
            line = f"* `{path.name}`: {first_sentence(path)}"
            lines.append(
                textwrap.fill(line, WIDTH, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False)
            )
    return "\n".join(lines).strip()


def _pages() -> Iterator[Path]:
    yield from (ROOT / "docs").rglob("*.md")
    yield from (ROOT / name for name in ("README.md", "CONTRIBUTING.md"))


def _prose() -> Iterator[Path]:
    yield from _pages()
    yield from (ROOT / name for name in ("CHANGELOG.md", "slurm/scale.md", "benchmarks/speed.md"))


def test_the_list_of_modules_is_true() -> None:
    text = ARCHITECTURE.read_text(encoding="utf-8")
    held = text[text.index(BEGIN) + len(BEGIN) : text.index(END)].strip()
    assert held == module_list(), "python -m tests.test_docs writes it again"


def test_every_module_says_what_it_is() -> None:
    for package in PACKAGES:
        for path in (ROOT / package).rglob("*.py"):
            if path.name != "__init__.py":
                assert first_sentence(path).endswith((".", ":")) or len(first_sentence(path)) > 20, path


@pytest.mark.parametrize("page", sorted(_pages()), ids=lambda page: page.name)
def test_files_that_a_page_names_are_there(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    links = [one for one in re.findall(r"\]\(([^)#]+?)(?:#[^)]*)?\)", text) if "://" not in one]
    assert [one for one in links if not (page.parent / one).exists()] == []
    told = re.sub(r"^New file `.*$", "", text, flags=re.MULTILINE)  # those a recipe lets its reader make
    named = re.findall(r"`((?:cscdarts|slurm|benchmarks|ablations|reports|tests)/[\w/.-]+\.\w+)`", told)
    assert [one for one in named if not (ROOT / one).exists()] == []


@pytest.mark.parametrize("page", sorted(_prose()), ids=lambda page: page.name)
def test_columns_have_headings(page: Path) -> None:
    """Read aloud, a cell is its heading and its value."""
    lines = page.read_text(encoding="utf-8").splitlines()
    heads = [
        line for line, below in pairwise(lines) if line.startswith("|") and re.fullmatch(r"\|[-: |]*-[-: |]*\|", below)
    ]
    assert [line for line in heads if not all(cell.strip() for cell in line.strip().strip("|").split("|"))] == []


@pytest.mark.parametrize("page", sorted(_prose()), ids=lambda page: page.name)
def test_lines_are_short(page: Path) -> None:
    """Rows of tables excepted, and what holds a link that cannot be broken."""
    lines = page.read_text(encoding="utf-8").splitlines()
    long = [line for line in lines if len(line) > WIDTH and not line.startswith("|") and "](" not in line]
    assert long == []


if __name__ == "__main__":
    before = ARCHITECTURE.read_text(encoding="utf-8")
    head, tail = before[: before.index(BEGIN) + len(BEGIN)], before[before.index(END) :]
    ARCHITECTURE.write_text(f"{head}\n{module_list()}\n{tail}", encoding="utf-8")
