"""What the report says in sentences: known inputs, known words."""

import re

import numpy as np
import pytest

from reports.build import Report
from reports.read.claims.contrasts import Contrast
from reports.read.claims.declared import CLAIMS
from reports.read.claims.evidence import Evidence, joined, lower
from reports.statistics import Interval
from reports.words import compared, counted, span, verb

pytestmark = pytest.mark.xdist_group("report")


@pytest.mark.parametrize(
    ("n", "words"), [(0, "0 runs"), (1, "1 run"), (2, "2 runs"), (1024, "1,024 runs")]
)  # fmt: skip
def test_things_are_counted_in_the_right_number(n: int, words: str) -> None:
    assert counted(n, "run") == words


def test_a_plural_of_its_own() -> None:
    assert [counted(n, "search", "searches") for n in (1, 3)] == ["1 search", "3 searches"]
    assert [verb(n, "is", "are") for n in (0, 1, 2)] == ["are", "is", "are"]


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (0.654, "0.65 points more"), (-0.654, "0.65 points less"),
        (0.0, "as much"), (0.004, "as much"), (-0.004, "as much"),
    ],
)  # fmt: skip
def test_a_sign_is_said_in_words(value: float, words: str) -> None:
    assert compared(value, 2, "points more", "points less", "as much") == words


def test_an_interval_is_said_in_words() -> None:
    assert span(Interval(-0.21, 1.1), 2) == "0.21 less to 1.10 more"
    assert span(Interval(0.0, 1.1), 2) == "0 to 1.10 more"
    assert span(Interval(0.06, 1.1), 2) == "0.06 to 1.10 more"
    assert span(Interval(-1.1, -0.06), 2) == "0.06 to 1.10 less"


def test_the_cards_are_sentences(quick_report: Report) -> None:
    page = (quick_report.folder / "index.html").read_text(encoding="utf-8")
    cards = re.findall(
        r'<span class="big">(.*?)</span><span class="what">(.*?)</span><span class="of">(.*?)</span>', page
    )
    assert ("48 of 48", "runs finished", "0 failed; grid quickstart") in cards
    told = {what: of for _, what, of in cards}
    (darts,) = (what for what in told if what.startswith("DARTS (1st order)"))
    assert re.fullmatch(r"DARTS \(1st order\) has \d\.\d\d points (more|less) test error than the default", darts)
    assert re.match(r"3 pairs of seeds, 95 % interval \d\.\d\d (more|less) to \d\.\d\d (more|less); ", told[darts])


#: Words that a reader has to work out, and number and verb that do not go together.
BAD = (
    r"\bless that of\b", r"\b1 (runs|seeds|pairs|settings|cells|searches|configs|figures|points) ",
    r"\b(?<![\d.,])1 \w+ (are|have|were)\b", r"\bnot un\w+", r"\bno \w+ cannot\b", r"  ",
)  # fmt: skip


def test_no_sentence_of_a_report_reads_badly(quick_report: Report) -> None:
    texts = [f"{finding.title}. {finding.text}" for finding in quick_report.findings]
    for table in quick_report.tables:
        texts += [table.caption, *(text for _, text in table.notes)]
        texts += [cell.text for row in table.rows for cell in row.cells]
    for claim in CLAIMS:
        texts += [claim.text, claim.test, claim.refuted_by]
    found = [(pattern, text) for text in texts for pattern in BAD if re.search(pattern, text)]
    assert found == []


def test_the_verdict_s_remarks_in_words() -> None:
    """Two measures of one claim, and too few seeds."""
    contrast = Contrast(())
    few = lower(np.array([-1.0]), contrast)
    assert few.why == "only 1 seed; a verdict takes 6"
    first = Evidence("upheld", 0.7, Interval(0.6, 0.8), 6)
    second = Evidence("undecided", 1.4, Interval(0.37, 5.29), 6)
    assert joined(first, second, ("peak memory", "search time")).why == (
        "peak memory: 0.70 ×, 95 % 0.60 to 0.80, upheld; search time: 1.40 ×, 95 % 0.37 to 5.29, undecided"
    )
    assert joined(Evidence("not run"), second, ("peak memory", "search time")).why.startswith("peak memory: not run; ")


@pytest.mark.parametrize("claim", CLAIMS, ids=lambda claim: str(claim.number))
def test_a_difference_has_words_for_its_sign_and_a_ratio_has_none(claim: object) -> None:
    from reports.read.claims.declared import Claim

    assert isinstance(claim, Claim)
    assert bool(claim.higher) == bool(claim.lower) == (claim.unit not in ("×", "%"))
