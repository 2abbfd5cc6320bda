"""No key gets into what a run writes: settings that hold one are refused, and the message does not show it."""

import pytest

from kd_dist.config.access_keys import ASSIGNED, refuse_access_keys, refuse_secret_variables
from kd_dist.errors import UserError
from tests.config.refusals import refusal
from tests.loading import load_job

HUB_KEY = "hf_" + "aB3" * 12


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (HUB_KEY, "what looks like an access key"),
        (f"https://me:{HUB_KEY[:12]}@example.org/model", "a password in a URL"),
        (["fine", {"deep": f"x{'-'}{HUB_KEY}"}], "what looks like an access key"),
        ("prefix-5ec2e75ec2e7", "the value of $WANDB_API_KEY"),
    ],
)
def test_a_key_in_a_setting_is_named_and_not_shown(value: object, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "5ec2e75ec2e7")
    with pytest.raises(UserError, match="tracking.tags holds") as caught:
        refuse_access_keys([("train.seed", 4), ("tracking.tags", value)])
    assert said in str(caught.value)
    assert not [secret for secret in (HUB_KEY, HUB_KEY[:12], "5ec2e75ec2e7") if secret in str(caught.value)]


def test_an_override_and_an_overlay_with_a_key_are_refused(tmp_path: object) -> None:
    assert "tracking.project holds what looks like" in refusal(f"tracking.project={HUB_KEY}")
    assert HUB_KEY not in refusal(f"tracking.project={HUB_KEY}", "train.steps=many")


def test_what_is_no_key_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("TOKEN", "kd_dist"), ("TOKENIZERS_PARALLELISM", "kd_dist_long"), ("KEYBOARD", "kd_dist_long")):
        monkeypatch.setenv(name, value)  # too short, and no names of secrets
    snapshot = "/home/me/.cache/huggingface/hub/models--a--b/snapshots/" + "0123456789abcdef" * 2 + "01234567"
    overrides = ["tracking.project=kd_dist_long", f"teacher.path={snapshot}"]
    assert load_job("tinybert_general", overrides).given["tracking.project"] == "kd_dist_long"


@pytest.mark.parametrize("line", ["export WANDB_API_KEY=abc", "HF_TOKEN='abc' true", 'declare -x MY_PASSWORD="a b"'])
def test_a_secret_in_a_profile_is_named_and_not_shown(line: str) -> None:
    with pytest.raises(UserError, match="is a secret") as caught:
        refuse_secret_variables([], ["module load cuda", line], "site.yaml")
    assert "abc" not in str(caught.value)


@pytest.mark.parametrize("line", ["export HF_TOKEN=$(cat ~/.hf)", "export HF_TOKEN=$OTHER", 'export HF_TOKEN="$OTHER"'])
def test_a_secret_that_is_read_from_elsewhere_is_none_in_the_profile(line: str) -> None:
    refuse_secret_variables(["HF_HUB_OFFLINE"], [line, "source ~/keys"], "site.yaml")
    assert ASSIGNED.search(line) is None
