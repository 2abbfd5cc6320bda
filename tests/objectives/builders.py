"""Stages of the tests of objectives, and the objectives they build."""

from pathlib import Path
from typing import Any

import torch
from torch import nn

from kd_dist.config.sections.data import TokenData
from kd_dist.config.sections.models import Encoder, Student
from kd_dist.config.sections.models import Teacher as TeacherSettings
from kd_dist.config.stages import TrainStage
from kd_dist.data.tokenizer_folders import load_tokenizer
from kd_dist.objectives.base import build
from tests.conftest import LabelledWorld


def stage(labelled: LabelledWorld, objective: object, **settings: object) -> TrainStage:
    path = str(labelled.teacher)
    given = {"student": Student(config=str(labelled.student))} | settings
    given |= {"teacher": TeacherSettings(path=path)} if given["student"] else {"encoder": Encoder(path=path)}
    return TrainStage(data=TokenData(tokens=str(labelled.tokens)), objective=objective, **given)


def built(described: TrainStage) -> Any:
    torch.manual_seed(0)
    return build(described, load_tokenizer(Path(described.data.tokens) / "tokenizer")).eval()


def built_with_branches(described: TrainStage) -> Any:
    """The objective of a model whose new branches have weights so wide that every part matters, in train mode."""
    torch.manual_seed(0)
    method: Any = build(described, load_tokenizer(Path(described.data.tokens) / "tokenizer"))
    for parameter in method.student.branches.parameters():
        nn.init.normal_(parameter, std=0.3)
    return method.train()
