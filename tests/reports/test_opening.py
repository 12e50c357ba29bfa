"""`report` tells how far it is, and opens its page."""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ablations.commands.options.progress import Advance
from tests.support.report_store import SyntheticStore


def test_a_report_tells_how_far_it_is_and_opens_its_page(
    quick: SyntheticStore,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    command_line: Callable[..., tuple[int, str, str]],
) -> None:
    told: list[tuple[str, int, int]] = []
    opened: list[str] = []

    @contextlib.contextmanager
    def bar(wanted: bool) -> Iterator[Advance]:
        assert not wanted
        yield lambda what, done, of: told.append((what, done, of))

    def browse(address: str) -> bool:
        opened.append(address)
        return True

    monkeypatch.setattr("ablations.commands.options.progress.progress_bar", bar)
    monkeypatch.setattr("webbrowser.open", browse)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", quick.uri)
    monkeypatch.setenv("DISPLAY", ":0")
    out = tmp_path / "with space"
    words = ("report", "quickstart", "--quiet", "--open", "--out", str(out))
    code, _, err = command_line(*words, "--formats", "csv")
    assert code == 2
    assert "--open" in err
    assert not out.exists()

    assert command_line(*words, "--formats", "html")[0] == 0
    assert opened == [(out / "index.html").as_uri()]
    kinds = dict.fromkeys(what for what, _, _ in told)
    assert list(kinds) == ["figures", "run pages"]
    for kind in kinds:
        steps = [(done, of) for what, done, of in told if what == kind]
        assert [done for done, _ in steps] == list(range(1, len(steps) + 1))
        assert {of for _, of in steps} == {len(steps)}
