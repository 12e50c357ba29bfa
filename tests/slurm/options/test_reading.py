"""Profiles are read as text: YAML 1.1's numbers and truths change nothing, keys stand once, any encoding will do."""

from pathlib import Path

import pytest

from slurm.backends.slurm.options.reading import decoded
from slurm.backends.slurm.profile import Profile, load_profile
from slurm.errors import ClusterError

#: As an editor of any language writes it; the comment is what breaks.
PAGE = "# Müller's queue – for tests\npartition: 3090\naccount: 0123\ntime_min: 12:00:00\n"


def _load(tmp_path: Path, content: str | bytes, *overrides: str) -> Profile:
    path = tmp_path / "mine.yaml"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return load_profile(str(path), overrides, {})


@pytest.mark.parametrize(
    "word",
    ["3090", "0123", "0x1F", "1e5", "6e12952", "1_000", "12:30:00", "yes", "no", "on", "off", "true", "False", "y", "N",
     "1.0", "2024-01-01", "=", ".inf", ".nan", "0b11", "+12", "-1", "NO", "a: b", "[a|b]", "{x}", "n[1-3,7]",
     "gpu:a100:1", "'quoted'", "null"],
)  # fmt: skip
def test_text_stays_text(tmp_path: Path, word: str) -> None:
    written = f"'{word}'" if word[0] in "[{=" or ": " in word or word == "null" else word
    for key in ("partition", "account", "qos", "constraint", "gres", "exclude", "reservation"):
        wanted = word.strip("'")
        assert getattr(_load(tmp_path, f"{key}: {written}\n"), key) == wanted
        assert getattr(load_profile("cpu", [f"{key}={word}"], {}), key) == wanted
    assert _load(tmp_path, f"environment:\n  A: {written}\n").environment == {"A": word.strip("'")}


def test_an_empty_variable_is_an_empty_variable(tmp_path: Path) -> None:
    profile = _load(tmp_path, "environment:\n  A:\n  B: ''\n  C: ~\n  D: 0\n", "environment.E=")
    assert profile.environment == {"A": "", "B": "", "C": "", "D": "0", "E": ""}
    lines = profile.sbatch("n", 1, None, hold=True)["setup"]
    assert "export A=''" in lines
    assert "export E=''" in lines


def test_a_key_without_a_value_says_nothing(tmp_path: Path) -> None:
    content = "partition:\naccount: ~\nqos: null\ntime_min:\nsetup:\ngroups:\n  retrain:\nextra:\nenvironment:\n"
    assert _load(tmp_path, content) == Profile(groups={"retrain": {}})  # type: ignore[dict-item]
    assert load_profile("gpu", ["mem_gb=", "groups.retrain.time_min="], {}).mem_gb is None


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("partition: a\naccount: b\npartition: c\n", "names partition twice, in lines 1 and 3"),
        ("groups:\n  retrain:\n    nodes: 1\n    nodes: 2\n", "names groups.retrain.nodes twice, in lines 3 and 4"),
        ("environment:\n  A: 1\n  'A': 2\n", "names environment.A twice, in lines 2 and 3"),
        ("extra: {nice: 1, nice: 2}\n", "names extra.nice twice, in lines 1 and 1"),
        ("environment: {A: 1}\ntime_min: 5\nenvironment: {B: 1}\n", "names environment twice, in lines 1 and 3"),
    ],
)
def test_a_key_stands_once(tmp_path: Path, content: str, said: str) -> None:
    with pytest.raises(ClusterError, match=said):
        _load(tmp_path, content)


def test_anchors_and_merges_still_work(tmp_path: Path) -> None:
    content = (
        "groups:\n  search: &small\n    nodes: 1\n    time_min: 1:00:00\n"
        "  retrain:\n    <<: *small\n    time_min: 2-00:00\n"
    )
    groups = _load(tmp_path, content).groups
    assert (groups["search"].time_min, groups["retrain"].time_min, groups["retrain"].nodes) == (60, 2880, 1)


@pytest.mark.parametrize(
    "encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "cp1252", "mac-roman"]
)
@pytest.mark.parametrize("ending", ["\n", "\r\n", "\r"])
def test_any_encoding(tmp_path: Path, encoding: str, ending: str) -> None:
    profile = _load(tmp_path, PAGE.replace("\n", ending).encode(encoding))
    assert (profile.partition, profile.account, profile.time_min) == ("3090", "0123", 720)


@pytest.mark.parametrize("encoding", ["latin-1", "shift-jis", "gbk", "koi8-r", "cp1250"])
def test_comments_in_old_encodings(tmp_path: Path, encoding: str) -> None:
    words = {"latin-1": "für Prüfung", "shift-jis": "キュー", "gbk": "队列", "koi8-r": "очередь", "cp1250": "fronta ž"}
    assert _load(tmp_path, f"# {words[encoding]}\npartition: a\n".encode(encoding)).partition == "a"


def test_marks_are_told_apart() -> None:
    for encoding in ("utf-8-sig", "utf-16", "utf-32"):
        assert decoded("a: 1".encode(encoding)) == "a: 1"
    assert decoded(b"") == ""


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("time_min: [1", "valid YAML.*line 1|valid YAML.*line 2"),
        ("a: b: c\n", "valid YAML.*line 1"),
        ("\tpartition: a\n", "valid YAML"),
        ("partition: a\n---\npartition: b\n", "valid YAML.*but found another document"),
        ("? [a, b]\n: c\n", "has a key that is no text"),
        ("partition: !!python/object/apply:os.system ['touch /tmp/never']\n", "has the tag"),
        ("partition: !own a\n", "has the tag !own"),
        ("a: *nowhere\n", "valid YAML.*undefined alias"),
        ("a: &a [*a]\n", "nested too deeply"),
        ("a: " + "[" * 3000, "valid YAML|nested too deeply"),
        ("<<: text\n", "merges what is no mapping"),
        ("partition: a\0b\n", "valid YAML"),
        ("just text\n", "holds a text, not keys and values"),
        ("# only a comment\n", "holds nothing, not keys and values"),
        ("", "holds nothing, not keys and values"),
        ("constraint: [a100|v100]\n", "mine.yaml, line 1: constraint.*put it in quotes"),
        ("description: x\ntime_min: soon\n", "mine.yaml, line 2: time_min: 'soon' is not valid"),
        ("groups:\n  search:\n    nodes: none\n", r"mine.yaml, line 3: groups\.search\.nodes: 'none'.*an integer"),
        ("groups: 5\n", "mine.yaml, line 1: groups"),
        ("groups:\n  search: 5\n", r"mine.yaml, line 2: groups\.search"),
        ("partion: a\n", "mine.yaml, line 1: partion.*Did you mean partition"),
        ("setup:\n  - export A: b\n", "mine.yaml, line 1: setup.*quotes"),
        ("environment: A=1\n", "mine.yaml, line 1: environment.*names and values"),
        ("environment:\n  A B: 1\n", "environment.A B is no variable's name"),
        ("environment:\n  A;rm: 1\n", "environment.A;rm is no variable's name"),
        ("environment:\n  A: [1]\n", "environment.A is no text"),
        ('partition: "a\\nb"\n', "mine.yaml, line 1: partition.*one line of text"),
    ],
)
def test_what_cannot_be_read_is_one_sentence(tmp_path: Path, content: str, said: str) -> None:
    with pytest.raises(ClusterError, match=said) as caught:
        _load(tmp_path, content)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 1000
    assert not Path("/tmp/never").exists()


def test_aliases_that_unfold_to_too_much(tmp_path: Path) -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 9)]
    with pytest.raises(ClusterError, match="unfolds to too much"):
        _load(tmp_path, "\n".join(lines))


def test_what_is_no_file_of_ours(tmp_path: Path) -> None:
    (tmp_path / "folder.yaml").mkdir()
    with pytest.raises(ClusterError, match="it is no file"):
        load_profile(str(tmp_path / "folder.yaml"))
    (tmp_path / "large.yaml").write_bytes(b"#" * (2 << 20))
    with pytest.raises(ClusterError, match="more than 1024 KiB"):
        load_profile(str(tmp_path / "large.yaml"))
    (tmp_path / "NAMED.YML").write_text("partition: a")
    assert load_profile(str(tmp_path / "NAMED.YML"), (), {}).partition == "a"
    (tmp_path / "bare").write_text("partition: b")
    assert load_profile(str(tmp_path / "bare"), (), {}).partition == "b"


def test_a_profile_in_a_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "mine.yaml").write_text("python: ~/env/bin/python\n")
    assert load_profile("~/mine.yaml", (), {}).python == f"{tmp_path}/env/bin/python"
    with pytest.raises(ClusterError, match="does not exist"):
        load_profile("~no-such-user-here/mine.yaml", (), {})


def test_overrides_are_text_too() -> None:
    profile = load_profile(
        "cpu",
        ["account=0123", "partition='quoted'", 'qos="x y"', "constraint=[a|b]", "exclude=n[1-3]", "setup=[a, 'b: c']",
         "environment.A={not yaml", "environment.B=#x", "environment={C: 012}", "environment.D=a=b"],
        {},
    )  # fmt: skip
    assert (profile.account, profile.partition, profile.qos) == ("0123", "quoted", "x y")
    assert (profile.constraint, profile.exclude, profile.setup) == ("[a|b]", "n[1-3]", ("a", "b: c"))
    assert profile.environment == {"C": "012", "D": "a=b"}


def test_an_override_that_fails_is_named_as_one() -> None:
    for text, said in (
        ("cpus_per_task=x", "--slurm cpus_per_task: 'x' is not valid; allowed: an integer"),
        ("groups.search.nodes=x", "--slurm groups.search.nodes: 'x'"),
        ("nonsense=1", "--slurm nonsense: '1' is not valid; allowed: the keys"),
        ("setup=[a, 'b", "--slurm setup: .* is not valid YAML"),
        ("=1", "key=value"),
    ):
        with pytest.raises(ClusterError, match=said):
            load_profile("cpu", [text], {})
