"""The layers that TinyBERT maps to each other, and students that cannot learn from a teacher."""

import pytest

from kd_dist.config.objectives.tinybert import TinyBertObjective


def shape(layers: int, heads: int = 12) -> dict[str, int]:
    return {"num_hidden_layers": layers, "num_attention_heads": heads}


@pytest.mark.parametrize(
    ("student", "teacher", "layers"), [(4, 12, [3, 6, 9, 12]), (6, 12, [2, 4, 6, 8, 10, 12]), (2, 3, [1, 3])]
)
def test_layers_are_evenly_spaced_and_end_with_the_last(student: int, teacher: int, layers: list[int]) -> None:
    assert TinyBertObjective().mapped_layers(student, teacher) == layers


def test_a_given_map_is_used_as_it_is() -> None:
    assert TinyBertObjective(layer_map="1,1,12").mapped_layers(3, 12) == [1, 1, 12]


def test_heads_must_match_only_while_attention_is_compared() -> None:
    problems = TinyBertObjective().architecture_problems(shape(12, heads=16), shape(4))
    assert ["16 attention heads and the student 12" in problem for problem in problems] == [True]
    assert TinyBertObjective(attention_weight=0).architecture_problems(shape(12, heads=16), shape(4)) == []


def test_a_map_names_a_teacher_layer_for_each_student_layer() -> None:
    assert TinyBertObjective(layer_map="1,2").architecture_problems(shape(2), shape(2)) == []
    both = TinyBertObjective(layer_map="0,2,13").architecture_problems(shape(12), shape(2))
    assert [problem.split(":")[0] for problem in both] == [
        "objective.layer_map=[0, 2, 13] names 3 teacher layers, but the student has 2 layers",
        "objective.layer_map names layers [0, 13]",
    ]
