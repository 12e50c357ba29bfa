"""No name, folder or address that is known comes out of the redactor, and what comes out goes through unchanged."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ablations.doctor.privacy.names import PLACEHOLDER, Known, Redactor
from ablations.doctor.privacy.secrets import Secrets
from tests.support.generated import generated

ALICE = Known(
    users=("alice", "al"), hosts=("login1.lab.org", "n17"), accounts=("quarks",),
    roots={"/home/alice": "HOME", "/home/alice/project": "CWD", "/work": "CODE"},
)  # fmt: skip


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("/home/alice/x", "HOME/x"),
        ("at /home/alice/project/runs.", "at CWD/runs."),
        ("/home/alice-old/x", "PATH-1"),
        ("/mnt/home/alice/x", "PATH-1"),
        ('File "/home/alice/project/a.py", line 3', 'File "CWD/a.py", line 3'),
        ("/scratch/b/c and /scratch/b/d and /scratch/b/c", "PATH-1 and PATH-2 and PATH-1"),
        ("/usr/lib/python3/x.py of AL, not of malt", "/usr/lib/python3/x.py of USER, not of malt"),
        ("/opt/py/lib/python3.11/site-packages/torch/nn/x.py", "PATH-1/site-packages/torch/nn/x.py"),
        ("ALICE_runs on LOGIN1.lab.org", "USER_runs on HOST-1"),
        ("nodes n17, n18, n[01-12]; n=3", "nodes HOST-2, HOST-3, HOST-4; n=3"),
        ("alice@lab.org from 10.0.0.7, 127.0.0.1 and fe80::1", "EMAIL-1 from IP-1, 127.0.0.1 and IP-2"),
        ("log in on n3.other.edu, see torch.nn.functional", "log in on HOST-3, see torch.nn.functional"),
        ("at 12:30:45 with torch 2.14.1", "at 12:30:45 with torch 2.14.1"),
        ("http://mlflow.lab.org:5000/alice", "http://HOST-3:5000/USER"),
        ("https://github.com/x/y", "https://github.com/x/y"),
        ("sqlite:////home/alice/mlflow.db", "sqlite:///HOME/mlflow.db"),
        ("sqlite:///mlflow.db", "sqlite:///mlflow.db"),
        ("file:///scratch/b", "file://PATH-1"),
        ("--account=quarks and/or 1/2", "--account=ACCOUNT-1 and/or 1/2"),
        ("GPU-5f2c1d3e-0000-4444-8888-123456789abc", "GPU-UUID-1"),
    ],
)
def test_what_becomes_of(text: str, told: str) -> None:
    redact = Redactor(ALICE)
    assert redact(text) == told
    assert redact(told) == told


def test_one_word_stands_for_one_thing_in_all_texts_and_data() -> None:
    redact = Redactor(ALICE)
    assert redact("/a/b") == redact("/a/b") == "PATH-1"
    assert redact.data({"/a/c": ["n18", {"alice": 1.5}], "x": None}) == {
        "PATH-2": ["HOST-3", {"USER": 1.5}], "x": None,
    }  # fmt: skip


NAMES = st.from_regex(r"[a-z][a-z0-9-]{1,10}[a-z0-9]", fullmatch=True).filter(lambda name: "--" not in name)
PIECES = st.sampled_from(
    ["/", " ", ".", "@", ":", "://", "http://", "sqlite:///", "-", "_", "\n", '"', "HOST-1", "USER", "HOME", "/x", "x",
     "1", "=", ".org", ".lab.de", "token=", "[1-3]", "\\", "é", "10.1.2.3", "~"]
)  # fmt: skip


def words_in(text: str, name: str) -> bool:
    """Whether a name is seen: a long one anywhere, a short one as a word of its own."""
    seen = PLACEHOLDER.sub("\0", text).casefold()
    pattern = re.escape(name) if len(name) >= 5 else rf"(?<![a-z0-9]){re.escape(name)}(?![a-z0-9])"
    return re.search(pattern, seen) is not None


@generated(200)
@given(
    st.lists(NAMES, min_size=1, max_size=2), st.lists(NAMES, min_size=1, max_size=2),
    st.lists(st.sampled_from(["/home/{}", "/scratch/{}/deep", "/{}"]), min_size=1, max_size=2),
    st.lists(st.one_of(PIECES, st.integers(0, 5), st.text(max_size=3)), max_size=25),
)  # fmt: skip
def test_nothing_known_is_seen_and_the_second_pass_changes_nothing(
    users: list[str], hosts: list[str], places: list[str], parts: list[str | int]
) -> None:
    roots = {place.format(users[0]): word for place, word in zip(places, ("HOME", "CWD"), strict=False)}
    planted = [*users, *hosts, *roots]
    text = "".join(part if isinstance(part, str) else planted[part % len(planted)] for part in parts)
    redact = Redactor(Known(users=tuple(users), hosts=tuple(hosts), roots=roots))
    told = redact(text)
    assert redact(told) == told
    for name in (*users, *hosts):
        assert not words_in(told, name), (name, text, told)
    for root in roots:
        assert not re.search(rf"(?<![\w.~/-]){re.escape(root)}(?=[/\s\"]|$)", told), (root, text, told)


@generated(200)
@given(st.text(max_size=60), st.from_regex(r"[A-Za-z0-9+/_.!-]{8,20}", fullmatch=True), st.text(max_size=60))
def test_a_secret_that_is_known_is_seen_nowhere(before: str, secret: str, after: str) -> None:
    secrets = Secrets.of({"MY_API_TOKEN": secret})
    told = Redactor(Known(), secrets)(before + secret + after)
    assert secret not in told
