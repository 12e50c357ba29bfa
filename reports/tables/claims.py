"""T0: what the abstract claims, what was tested, and what came out."""

from collections.abc import Sequence

from reports.read.claims.declared import CLAIMS, Claim
from reports.read.claims.evidence import FEWEST, Evidence
from reports.read.claims.weighed import weighed
from reports.read.settings import Study
from reports.tables.table import DASH, Block, Column, ReportTable, Row, TableCell, text_cell
from reports.words import compared


def claims_table(found: Sequence[Study]) -> ReportTable:
    """T0: one block for each data set and scale, one row for each claim of the abstract."""
    columns = (
        Column("claim", "claim of the abstract", numeric=False),
        Column("verdict", "verdict", numeric=False),
        Column("effect", "effect", source="ours"),
        Column("interval_95", "95 % interval", numeric=False),
        Column("seeds", "n"),
        Column("needed", "n that would decide", only=frozenset({"csv", "html", "md"})),
        Column("test", "test", numeric=False),
        Column("refuted_by", "what would refute it", numeric=False, only=frozenset({"csv", "html", "md"})),
        Column("pairs", "pairs", only=frozenset({"csv", "html", "md"})),
        Column("why", "remarks", numeric=False, only=frozenset({"csv", "html", "md"})),
    )
    blocks = [
        Block(f"{group.data} · scale {group.scale}", tuple(_row(claim, evidence) for claim, evidence in group.rows))
        for group in weighed(found)
    ]
    if not blocks:
        blocks = [Block("no run yet", tuple(_row(claim, Evidence("not run")) for claim in CLAIMS))]
    return ReportTable(
        "T0",
        "t0_claims",
        "The claims of the abstract",
        "Tests, margins and rules were fixed in code before the runs. Seeds are the units: pairs of settings under one "
        "seed are averaged first. A claim is upheld or refuted where the whole 95 % interval says so, at the scale of "
        f"the block and with n of {FEWEST} or more. That is no verdict on the paper, whose networks only the paper's "
        "scale trains. n counts seeds, for claim 4 cells. Below 0 an interval means less. What a remark says without "
        "runs that stood still was thought of after a first study, and decides nothing.",
        columns,
        tuple(blocks),
    )


def _row(claim: Claim, found: Evidence) -> Row:
    effect = TableCell()
    if found.effect is not None:
        shown = f"{claim.printed(found.effect)} {claim.unit}"
        if claim.higher:
            more, less = (f"{claim.unit} {word}".strip() for word in (claim.higher, claim.lower))
            shown = compared(found.effect, claim.digits, more, less, "no difference")
        effect = TableCell(shown, found.effect, n=found.seeds, source="ours")
    span = DASH
    if found.interval is not None:
        span = f"{claim.printed(found.interval.low)} to {claim.printed(found.interval.high)}"
    return Row(
        (
            text_cell(f"{claim.number}. {claim.text}"),
            text_cell(found.word),
            effect,
            TableCell(span, span if found.interval else None),
            TableCell(str(found.seeds), found.seeds) if found.seeds else TableCell(),
            TableCell(str(found.needed), found.needed) if found.needed is not None else TableCell(),
            text_cell(claim.test),
            text_cell(claim.refuted_by),
            TableCell(str(found.pairs), found.pairs) if found.pairs else TableCell(),
            text_cell(found.why),
        ),
        "ours",
        key=found.word in ("upheld", "refuted"),
    )
