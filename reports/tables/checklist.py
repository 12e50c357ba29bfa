"""T7: two public checklists, answered from the records. Where the records do not show it, the answer is no."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from cscdarts.settings.metrics import METRICS
from reports.read.comparison import ERROR
from reports.read.settings import SEEDS, Setting, Study, column
from reports.read.store import Store
from reports.tables.table import Block, Column, ReportTable, Row, text_cell
from reports.words import counted, verb

#: Parameters that describe how a derived network is trained and tested, or what it is trained on.
_PROTOCOL = ("evaluation.", "data.")


@dataclass(frozen=True)
class Answer:
    """`yes`, `partly`, `no` or `not applicable`, with the evidence and where it is."""

    word: str
    evidence: str
    link: str = ""


class Facts:
    """What the records show, computed once."""

    def __init__(self, store: Store, studies: Sequence[Study], benchmarked: int) -> None:
        self.store, self.studies, self.benchmarked = store, list(studies), benchmarked
        self.settings: list[Setting] = [s for study in studies for s in study.settings if len(s.done)]
        self.done = sum(len(setting.done) for setting in self.settings)
        self.codes = sorted({code for s in self.settings for code in s.codes})
        self.machines = sorted({machine for s in self.settings for machine in s.hardware})
        self.torches = sorted({str(run["torch"]) for s in self.settings for run in s.done if run["torch"]})
        self.methods = sorted({name for s in self.settings for name in s.methods})
        self.seeds = [len({run["seed"] for run in s.done}) for s in self.settings]
        self.clean = bool(self.codes) and not any("+" in c or c == "unknown" for c in self.codes)

    def recorded(self, metric: str) -> int:
        """How many finished runs have a metric."""
        return sum(int(column(s.done, metric).size) for s in self.settings)

    def differing(self, study: Study, prefixes: tuple[str, ...]) -> list[str]:
        """Parameters under some prefixes that are not the same in all finished settings of a study."""
        finished = [s for s in study.settings if len(s.done)]
        names = sorted({n for s in finished for n in s.params if n.startswith(prefixes) and n not in SEEDS})
        return [name for name in names if len({s.params.get(name) for s in finished}) > 1]


def _code(facts: Facts) -> Answer:
    if not facts.done:
        return Answer("no", "no finished run")
    if facts.clean:
        return Answer(
            "yes", f"all code is in this repository, runs name their commit: {', '.join(facts.codes[:4])}", "#t6b_runs"
        )
    return Answer("partly", "some runs have no recorded commit or uncommitted changes", "#t6b_runs")


def _config(facts: Facts) -> Answer:
    bare = sum(1 for s in facts.settings if not any(s.params.values()))
    if not facts.done or bare:
        return Answer("no", f"{counted(bare, 'setting')} without a recorded config" if bare else "no finished run")
    return Answer("yes", "full config and seed of each run on its page and in MLflow", "#t6b_runs")


def _same_pipeline(facts: Facts) -> Answer:
    differing = sorted({name for study in facts.studies for name in facts.differing(study, _PROTOCOL)})
    if not facts.done:
        return Answer("no", "no finished run")
    if differing:
        return Answer("partly", f"compared settings differ in {', '.join(differing[:5])}")
    return Answer(
        "yes", "within each block, data, split and retraining recipe are equal in all settings", "#t3_ablation"
    )


def _confounders(facts: Facts) -> Answer:
    mixed = [
        name
        for name, found in (
            ("machines", facts.machines),
            ("code versions", facts.codes),
            ("torch versions", facts.torches),
        )
        if len(found) > 1
    ]
    if not facts.done:
        return Answer("no", "no finished run")
    if mixed:
        return Answer(
            "partly", f"several {' and '.join(mixed)}; the report pairs and averages only within one", "#t4_cost"
        )
    return Answer("yes", "one machine kind, one code version, one torch version", "#t6b_runs")


def _ablation(facts: Facts) -> Answer:
    most = max((sum(1 for s in study.ablation if s.values(ERROR).size) for study in facts.studies), default=0)
    return (
        Answer("yes", f"{most} settings of CSC-DARTS", "#t3_ablation")
        if most > 1
        else Answer("no", "one setting or none")
    )


def _over_time(facts: Facts) -> Answer:
    if facts.benchmarked:
        return Answer("yes", "benchmark accuracy of the cell after each search epoch", "#figures")
    return Answer("no", "test performance is known for the final cell only")


def _random(facts: Facts) -> Answer:
    found = [name for name in ("random", "random-ws") if name in facts.methods]
    names = {"random": "random architectures", "random-ws": "random search with shared weights"}
    return (
        Answer("yes", ", ".join(names[n] for n in found), "#t3_ablation")
        if found
        else Answer("no", "no random baseline was run")
    )


def _repeats(facts: Facts) -> Answer:
    if not facts.seeds or max(facts.seeds) < 2:
        return Answer("no", "one seed per setting")
    word = "yes" if min(facts.seeds) > 1 else "partly"
    few = f"{min(facts.seeds)} to " if min(facts.seeds) < max(facts.seeds) else ""
    return Answer(word, f"{few}{counted(max(facts.seeds), 'seed')} per setting, each listed", "#t6a_settings")


def _benchmark(facts: Facts) -> Answer:
    if facts.benchmarked:
        return Answer("yes", f"{counted(facts.benchmarked, 'run')} checked against a tabular benchmark", "#t5b_checks")
    return Answer("no", "no run was checked against a tabular benchmark")


def _tuning(facts: Facts) -> Answer:
    return Answer("no", "hyperparameters follow published protocols; tuning time before this grid is not recorded")


def _whole_time(facts: Facts) -> Answer:
    search, retrain = facts.recorded("search_time_s"), facts.recorded("retrain_time_s")
    if facts.done and search == retrain == facts.done:
        return Answer("yes", "search and retraining time of each run, wall time from first to last record", "#t6b_runs")
    return Answer(
        "partly" if search else "no",
        f"search time of {search}, retraining time of {retrain} of {counted(facts.done, 'run')}",
    )


def _setup(facts: Facts) -> Answer:
    if facts.done and facts.machines and facts.torches:
        return Answer("yes", f"{'; '.join(facts.machines[:3])}; torch {', '.join(facts.torches)}", "#t6b_runs")
    return Answer("no", "machine or library versions are not recorded")


def _selection(facts: Facts) -> Answer:
    if any(facts.recorded(name) for name in ("derived_valid_error_pct", "supernet_valid_error_pct")):
        return Answer(
            "yes",
            "any choice between seeds is made on validation error; all settings of the grid are shown",
            "#t3b_variance",
        )
    return Answer("no", "no validation error is recorded, so nothing could be chosen on it")


def _count(facts: Facts) -> Answer:
    return (
        Answer("yes", f"{counted(facts.done, 'finished run')}; n beside each number", "#t6a_settings")
        if facts.done
        else Answer("no", "none")
    )


def _measures(facts: Facts) -> Answer:
    return Answer(
        "yes", f"{len(METRICS)} metrics declared once with unit and direction; captions define each statistic"
    )


def _spread(facts: Facts) -> Answer:
    if facts.seeds and max(facts.seeds) > 1:
        return Answer("yes", "mean ± standard deviation, paired differences with 95 % intervals", "#t3_ablation")
    return Answer("no", "no setting has two finished seeds")


def _splits(facts: Facts) -> Answer:
    if not facts.done:
        return Answer("no", "no finished run")
    return Answer(
        "yes",
        "two disjoint halves of the training set for the search, by recorded split seed; test set used once",
        "#t6b_runs",
    )


def _statistics(facts: Facts) -> Answer:
    return (
        Answer("yes", "counts and content hash of the data stand in each run's result.json")
        if facts.done
        else Answer("no", "none")
    )


def _models(facts: Facts) -> Answer:
    texts = sum(bool(run["genotype"]) for s in facts.settings for run in s.done)
    return (
        Answer(
            "partly",
            f"the {verb(texts, 'genotype', 'genotypes')} of {counted(texts, 'run')} {verb(texts, 'is', 'are')} listed; "
            "trained weights stay in the run folders",
            "#figures",
        )
        if texts
        else Answer("no", "no genotype is recorded")
    )


def _fixed(word: str, evidence: str) -> Callable[[Facts], Answer]:
    return lambda facts: Answer(word, evidence)


NAS_ITEMS: tuple[tuple[str, Callable[[Facts], Answer]], ...] = (
    ("Released: code of the training pipeline for the final architectures", _code),
    ("Released: code of the search space", _code),
    ("Released: hyperparameters and seeds of the final evaluation", _config),
    ("Released: code of the NAS method", _code),
    ("Released: hyperparameters and seeds of the NAS method", _config),
    (
        "Same benchmark for all compared methods: data, split, search space, training code, hyperparameters",
        _same_pipeline,
    ),
    ("Confounding factors controlled: hardware, library versions, run times", _confounders),
    ("Ablation studies", _ablation),
    ("Same evaluation protocol for compared methods", _same_pipeline),
    ("Performance compared over time", _over_time),
    ("Compared to random search", _random),
    ("Several runs, seeds reported", _repeats),
    ("Tabular or surrogate benchmarks used for in-depth evaluation", _benchmark),
    ("Hyperparameter tuning reported, with its time and resources", _tuning),
    ("Time of the whole method reported, not of the search alone", _whole_time),
    ("All details of the experimental setup reported", _setup),
)
ML_ITEMS: tuple[tuple[str, Callable[[Facts], Answer]], ...] = (
    (
        "Clear description of the algorithm",
        _fixed("partly", "our reading is documented; the paper itself could not be read"),
    ),
    (
        "Clear statement of assumptions",
        _fixed("yes", "every choice the paper leaves open is a named setting: cscdarts config --explain"),
    ),
    (
        "Complexity: time, space",
        _fixed(
            "partly", "parameters, MACs, memory access counted and memory and time measured, no asymptotic analysis"
        ),
    ),
    ("Theoretical claims and proofs", _fixed("not applicable", "no theoretical claim is made")),
    ("Data: relevant statistics", _statistics),
    ("Data: train, validation and test splits", _splits),
    ("Data: exclusions and preprocessing", _config),
    ("Data: link to a downloadable version", _fixed("yes", "public data sets through scikit-learn and torchvision")),
    (
        "Code: dependencies specified",
        _fixed("yes", "pyproject.toml, and the installed versions in each run's environment.json"),
    ),
    ("Code: training and evaluation code", _code),
    ("Code: trained models", _models),
    (
        "Code: README with results and the exact commands",
        _fixed("partly", "the commands are in the README; results are in reports like this one"),
    ),
    ("Results: range of hyperparameters considered, and how the best was chosen", _selection),
    ("Results: exact number of training and evaluation runs", _count),
    ("Results: definition of measures and statistics", _measures),
    ("Results: central tendency and variation", _spread),
    ("Results: average run time or energy", _whole_time),
    ("Results: computing infrastructure", _setup),
)


def checklist_table(store: Store, studies: Sequence[Study], benchmarked: int) -> ReportTable:
    """T7.

    Args:
        benchmarked: how many runs were checked against a tabular benchmark.
    """
    facts = Facts(store, studies, benchmarked)
    columns = (
        Column("item", "item", numeric=False),
        Column("answer", "answer", numeric=False),
        Column("evidence", "evidence", numeric=False),
    )
    blocks = tuple(
        Block(title, tuple(_row(question, judge(facts)) for question, judge in items))
        for title, items in (
            ("NAS best practice checklist (Lindauer and Hutter, JMLR 21 (2020) 243)", NAS_ITEMS),
            ("Machine learning reproducibility checklist (Pineau et al., version 2.0)", ML_ITEMS),
        )
    )
    return ReportTable(
        "T7",
        "t7_checklists",
        "Checklists",
        "Answered by the program from the records above. Where the records do not show it, the answer is no.",
        columns,
        blocks,
    )


def _row(question: str, answer: Answer) -> Row:
    return Row((text_cell(question), text_cell(answer.word), text_cell(answer.evidence, link=answer.link)), "ours")
