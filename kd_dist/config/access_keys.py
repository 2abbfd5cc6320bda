"""Keep keys and passwords out of settings, which the run folder, its scripts and W&B show to others."""

import os
import re
from collections.abc import Iterable, Mapping
from typing import Any

from kd_dist.errors import UserError

SECRET_NAME = re.compile(r"(^|_)(API_?KEY|ACCESS_?KEY|KEY|TOKEN|SECRET|PASSWORD|PASSWD|CREDENTIALS)$", re.IGNORECASE)

MIN_LENGTH = 8  # shorter values of such variables are no keys, and may be part of any word

KNOWN_KEYS = re.compile(r"\b(hf_|wandb_v1_|gh[pousr]_|sk-)[A-Za-z0-9_-]{30,}")

PASSWORD_IN_URL = re.compile(r"://[^/@\s]*:[^/@\s]+@")

ASSIGNED = re.compile(r"\b(\w+)=[\"']?[^\"'\s$`]")
"""A value that a shell line gives a variable, unless it is read from elsewhere: `KEY=$(cat ~/.key)`."""


def refuse_access_keys(settings: Iterable[tuple[str, Any]], where: str = "") -> None:
    """Refuse settings that hold a key; the message does not show it.

    Args:
        settings: Keys and values, as typed or as read from a file.
        where: What comes before the key in the message, such as the name of a file.

    Raises:
        UserError: A value holds a key of a known form, the value of a variable such as HF_TOKEN, or a URL's password.
    """
    for key, value in settings:
        for text in _texts(value):
            if found := _key_in(text):
                raise UserError(
                    f"{where}{key} holds {found}, and settings are written to the run folder and shown in W&B: take it "
                    "out. `hf auth login` and `wandb login` keep keys at their place, and a variable of your shell "
                    "reaches the stages"
                )


def refuse_secret_variables(variables: Iterable[str], lines: Iterable[str], where: str) -> None:
    """Refuse variables, or shell lines that set some, whose name says that their value is a secret.

    Raises:
        UserError: There is one; the message does not show its value.
    """
    assigned = [found[1] for line in lines for found in ASSIGNED.finditer(line)]
    for name in (*variables, *assigned):
        if SECRET_NAME.search(name):
            raise UserError(
                f"{where}: {name} is a secret, which every sbatch file would show: set it in your shell, from where "
                f"the stages get it, or read it in `setup` (`export {name}=$(cat ~/.{name.lower()})`)"
            )


def _texts(value: Any) -> list[str]:
    if isinstance(value, Mapping):
        return [text for pair in value.items() for item in pair for text in _texts(item)]
    if isinstance(value, list):
        return [text for item in value for text in _texts(item)]
    return [value] if isinstance(value, str) else []


def _key_in(text: str) -> str | None:
    """Return what kind of key a text holds, without the key."""
    for name, value in os.environ.items():
        if len(value) >= MIN_LENGTH and SECRET_NAME.search(name) and value in text:
            return f"the value of ${name}"
    if KNOWN_KEYS.search(text):
        return "what looks like an access key"
    return "a password in a URL" if PASSWORD_IN_URL.search(text) else None
