"""What stages say about their inputs, and which of their settings decide the result."""

import ast

import pytest

from kd_dist.config.jobs import find_job, job_names
from kd_dist.config.objectives.soft_labels import SoftLabelsObjective
from kd_dist.config.objectives.tinybert import TinyBertObjective
from kd_dist.config.paths import REPOSITORY
from kd_dist.config.sections.data import PlainTokenData, TokenData
from kd_dist.config.sections.evaluation import Calibrate, Evaluate
from kd_dist.config.sections.models import Donor, Model, Student, Teacher
from kd_dist.config.sections.resources import GpuResources
from kd_dist.config.sections.training import Cadence, Engine, Optim, Selection, Train
from kd_dist.config.stages import CalibrateStage, EvaluateStage, TrainStage


def training(**settings: object) -> TrainStage:
    content = {"teacher": Teacher(path="@check/model"), "data": TokenData(tokens="@corpus/tokens")}
    return TrainStage.model_validate(content | {"student": Student(), "objective": TinyBertObjective()} | settings)


def test_wires_are_inputs_and_everything_else_is_a_path() -> None:
    models = {"teacher": "@finetune/export", "other": "some/model"}
    stage = EvaluateStage(evaluate=Evaluate(models=models), data=PlainTokenData(tokens="@labelled/tokens"))
    assert stage.inputs() == {"finetune", "labelled"}
    assert stage.wires() == {"evaluate.models", "data.tokens"}
    assert list(stage.named_paths()) == [("evaluate.models", "some/model")]


def test_rewiring_reaches_strings_in_maps() -> None:
    stage = EvaluateStage(
        evaluate=Evaluate(models={"teacher": "@a/export"}), data=PlainTokenData(tokens="@labelled/tokens")
    )
    assert stage.rewired(lambda value: value.replace("@a/", "@b/")).evaluate.models == {"teacher": "@b/export"}


@pytest.mark.parametrize(
    "settings",
    [
        {"resources": GpuResources(nodes=2)},
        {"resources": GpuResources(nodes=2, min_nodes=1)},
        {"cadence": Cadence(save_every_n_steps=1, evaluate_every_n_steps=1)},
        {"engine": Engine(zero_stage=2, activation_checkpointing=True, hang_minutes=60)},
    ],
    ids=["where", "where at least", "how often", "memory"],
)
def test_where_and_how_often_do_not_decide_the_result(settings: dict[str, object]) -> None:
    assert training(**settings).identity() == training().identity()


def test_numbers_of_machines_that_share_the_global_batch() -> None:
    stage = training(resources=GpuResources(nodes=4, min_nodes=1, gpus_per_node=8))
    assert stage.node_counts() == [4, 2, 1]  # 256 sequences do not divide among 24 ranks


@pytest.mark.parametrize(("nodes", "least"), [(4, 3), (3, 2)])
def test_a_global_batch_must_divide_on_the_fewest_and_on_all_machines(nodes: int, least: int) -> None:
    problems = training(resources=GpuResources(nodes=nodes, min_nodes=least, gpus_per_node=2)).problems("distill")
    assert any("do not divide among 6 ranks" in problem for problem in problems)


def test_precision_and_with_a_selection_the_evaluations_decide_the_result() -> None:
    assert training(engine=Engine(precision="bf16")).identity() != training().identity()
    often = training(selection=Selection(), cadence=Cadence(evaluate_every_n_steps=1))
    assert often.identity() != training(selection=Selection()).identity()


def test_layers_come_from_the_donor_or_else_from_the_teacher() -> None:
    assert training().donor_path() == "@check/model"
    assert training(donor=Donor(path="d")).donor_path() == "d"
    assert training(teacher=None).donor_path() is None


def test_problems_of_a_train_stage_are_those_of_its_sections() -> None:
    stage = training(
        train=Train(global_batch_size=10, micro_batch_size=4), objective=TinyBertObjective(temperature=2.0)
    )
    assert [problem.split("=")[0] for problem in stage.problems("distill")] == [
        "train.global_batch_size",
        "objective.temperature",
    ]


def test_patience_and_a_target_exclude_each_other() -> None:
    rows = PlainTokenData(tokens="tokens")
    for calibrate, number in ((Calibrate(patience=2), 0), (Calibrate(patience=2, target_speedup=3), 1)):
        stage = CalibrateStage(model=Model(path="m"), data=rows, calibrate=calibrate)
        assert len(stage.problems("calibrate")) == number


def test_every_entry_is_a_function_of_stage_folder_and_shard() -> None:
    for entry in {stage.entry for name in job_names() for stage in find_job(name).stages.values()}:
        module, function = entry.split(":")
        tree = ast.parse((REPOSITORY / f"{module.replace('.', '/')}.py").read_text(encoding="utf-8"))
        (found,) = (node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == function)
        assert [argument.arg for argument in found.args.args] == ["stage", "stage_dir", "shard"]


def test_a_recurrent_model_has_a_learning_rate_of_its_own() -> None:
    stage = training(objective=SoftLabelsObjective())
    assert [stage.learning_rate(width, "recurrent", "single_label") for width in (128, 768)] == [1e-3, 1e-3]
    assert stage.learning_rate(768, "bert", "single_label") < 1e-4
    given = training(optim=Optim(learning_rate=0.5))
    assert [given.learning_rate(256, name, "multi_label") for name in ("recurrent", "bert")] == [0.5, 0.5]
