"""Families that can be pretrained, and rows that must hold word boundaries."""

import pytest

from kd_dist.config.families import ALL_FAMILIES
from kd_dist.config.objectives.mlm import MlmObjective


@pytest.mark.parametrize("family", ALL_FAMILIES)
def test_a_family_with_one_head_module_can_be_pretrained(family: str) -> None:
    problems = MlmObjective().training_problems({"model_type": family})
    assert (problems == []) == (ALL_FAMILIES[family].masked_head is not None)
    assert all(
        "supported families: albert, bert, deberta-v2, ernie, nezha, roberta, roformer, xlm-roberta" in problem
        for problem in problems
    )


def test_whole_words_need_word_boundaries() -> None:
    assert [MlmObjective(whole_word_masking=whole).needs_word_starts() for whole in (True, False)] == [True, False]
