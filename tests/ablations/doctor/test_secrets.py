"""Secrets are known by the names of what holds them, by their place in a URL and by their look; a profile shows what is
known to hold none."""

import pytest

from ablations.doctor.privacy.scripts import hidden_texts, shown_profile
from ablations.doctor.privacy.secrets import Secrets, names_a_secret
from slurm.backends.slurm.profile import Profile

PLANTED = "hunter2-of-ours"


@pytest.mark.parametrize(
    "text",
    [
        f"MLFLOW_TRACKING_PASSWORD={PLANTED}",
        f"export WANDB_API_KEY='{PLANTED}'",
        f'"api_token": "{PLANTED}"',
        f"{{'secret': '{PLANTED}'}}",
        f"password: first {PLANTED}",
        f"password: |\n  {PLANTED}",
        f"curl -H 'Authorization: Token {PLANTED}' x",
        f"Bearer {PLANTED}",
        f"tool --password {PLANTED} --more",
        f"tool --api-key={PLANTED}",
        f"https://alice:{PLANTED}@host/x",
        f"https://alice:a/b@{PLANTED}@host/x",
        f"https://{PLANTED}@host/x",
        f"https://host/x?access_token={PLANTED}&y=1",
        f"-----BEGIN RSA PRIVATE KEY-----\n{PLANTED}\n-----END RSA PRIVATE KEY-----",
        f"ghp_0123456789abcdef{PLANTED.replace('-', '')}",
    ],
)
def test_a_secret_is_known_by_its_place(text: str) -> None:
    told = Secrets().clean(text)
    assert PLANTED not in told
    assert PLANTED.replace("-", "") not in told
    assert Secrets().clean(told) == told


@pytest.mark.parametrize(
    "text",
    [
        "PriorityType = priority/basic\nSLURM_VERSION = 22", "the author of x", "step 3: 5 tokens", "http://host:80/x",
        "commit 69396843cedb91ab9a2335e38ac4179a3d070b7b", "tokenised: no", "Python 3.11, torch 2.9",
    ],
)  # fmt: skip
def test_what_is_none_stays(text: str) -> None:
    assert Secrets.of({"TOKENIZERS_PARALLELISM": "false", "PWD": "/x", "USE_TOKEN": "true"}).clean(text) == text


def test_values_of_telling_variables_are_taken_out_of_any_text_in_any_form() -> None:
    secrets = Secrets.of({"X_SECRET": 'a"b c%d', "URL": "postgres://me:pass%2Fword@db/x", "SHORT_TOKEN": "xyz"})
    for form in ('a"b c%d', "a%22b%20c%25d", 'a\\"b c%d', "pass/word", "pass%2Fword"):
        assert form not in secrets.clean(f"<{form}>")
    assert secrets.clean("xyz, but not xyzzy") == "SECRET, but not xyzzy"
    assert secrets.clean_data({"token": "q", "n": ["xyz", 3]}) == {"token": "SECRET", "n": ["SECRET", 3]}


def test_which_names_tell() -> None:
    assert all(map(names_a_secret, ("HF_TOKEN", "DB_PASSWD", "AWS_SECRET_ACCESS_KEY", "MY_KEY", "GITHUB_PAT_TOKEN")))
    assert not any(map(names_a_secret, ("PWD", "OMP_NUM_THREADS", "HOME", "AUTHOR", "TOKENIZERS_PARALLELISM")))


def test_a_profile_shows_what_is_known_to_hold_no_secret_and_stays_a_profile() -> None:
    whole = Profile.model_validate({
        "description": PLANTED,
        "setup": ["module load cuda/12.4", "source /opt/venv/bin/activate", f"login --with {PLANTED}",
                  f"export FOO={PLANTED}", "export OMP_NUM_THREADS=4", f"# {PLANTED}", f"module load x; y {PLANTED}",
                  f"mysql -p{PLANTED}"],
        "environment": {"PLAIN": PLANTED, "NCCL_DEBUG": "WARN", "CUDA_VISIBLE_DEVICES": ""},
        "container": f"apptainer exec --nv --env A={PLANTED} --env B {PLANTED} /images/x.sif",
        "extra": {"comment": PLANTED, "export": f"ALL,A={PLANTED}", "mail-user": f"{PLANTED}@x.org", "nice": 10},
    })  # fmt: skip
    hidden = Secrets().and_these(hidden_texts(whole.model_dump(mode="json")))
    assert PLANTED not in hidden.clean(f"connecting with {PLANTED} in module python of /opt/venv/bin/activate")
    assert "in module python of /opt/venv/bin/activate" in hidden.clean("in module python of /opt/venv/bin/activate")
    values = shown_profile(whole.model_dump(mode="json", exclude_none=True))
    shown = Profile.model_validate(values)
    assert PLANTED not in str(values)
    assert shown.setup[:2] == ("module load cuda/12.4", "source /opt/venv/bin/activate")
    assert shown.setup[3:5] == ("export FOO=LEFT_OUT", "export OMP_NUM_THREADS=4")
    assert shown.environment == {"PLAIN": "LEFT_OUT", "NCCL_DEBUG": "WARN", "CUDA_VISIBLE_DEVICES": ""}
    assert shown.container is not None
    assert shown.container.startswith("apptainer exec --nv --env")
    assert shown.container.endswith("/images/x.sif")
    assert shown.extra["nice"] == 10
