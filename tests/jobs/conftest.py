"""Model folders that the jobs of these tests name."""

from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def teachers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """DIR is an encoder without a language-model head, MLM one with it."""
    monkeypatch.chdir(tmp_path)
    for name, architecture in (("DIR", "BertModel"), ("MLM", "BertForMaskedLM")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text(f'{{"architectures": ["{architecture}"]}}')
