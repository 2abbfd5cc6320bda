"""A method is found by its name: its settings, its objective and a job are all it takes."""

import json
import subprocess
import sys
from pathlib import Path

from kd_dist.config.paths import REPOSITORY
from tests.conftest import TinyWorld

SETTINGS = '''
"""Settings of the toy method: hidden states of the last layer, by absolute difference."""

from typing import Literal

from pydantic import Field

from kd_dist.config.sections.objective import ModelConfig, ObjectiveSection


class ToyObjective(ObjectiveSection):
    """A toy."""

    name: Literal["toy"] = Field(default="toy", description="a toy")
    scale: float = Field(default=1.0, gt=0, description="weight of the difference")

    def weights(self) -> dict[str, float]:
        return {"difference": self.scale}

    def architecture_problems(self, teacher: ModelConfig, student: ModelConfig) -> list[str]:
        return ["the toy wants no student of 7 layers"] if student["num_hidden_layers"] == 7 else []
'''

OBJECTIVE = '''
"""The toy method. Shapes: B batch, S sequence, D width."""

from transformers import AutoConfig

from kd_dist.models.students import build_encoder
from kd_dist.models.teacher import Wanted, encode
from kd_dist.objectives.base import Objective, Outcome


class Toy(Objective):
    def __init__(self, student, teacher):
        super().__init__()
        self.student = student
        self.projection = __import__("torch").nn.Linear(student.config.hidden_size, teacher.hidden_size)
        self.layers = student.config.num_hidden_layers, teacher.num_hidden_layers

    def wanted(self):
        return Wanted(hidden_states=frozenset([self.layers[1]]))

    def counts(self, batch):
        return {"difference": float(batch["attention_mask"].sum())}

    def forward(self, batch, teacher):
        student = encode(self.student, batch, Wanted(hidden_states=frozenset([self.layers[0]])))
        gap_BSD = self.projection(student.hidden_states[self.layers[0]]) - teacher.hidden_states[self.layers[1]]
        return Outcome({"difference": (gap_BSD.abs().mean(-1) * batch["attention_mask"]).sum()})


def build(stage, tokenizer):
    return Toy(build_encoder(stage, tokenizer), AutoConfig.from_pretrained(stage.teacher.path))
'''

JOB = '''
"""A job of the toy method."""

from kd_dist.config.job import Job
from kd_dist.config.objectives.toy import ToyObjective
from kd_dist.config.sections.data import CorpusData, TokenData
from kd_dist.config.sections.models import Student, Teacher, Tokenizer
from kd_dist.config.stages import CorpusStage, TrainStage

JOB = Job(
    name="toy",
    description="a toy",
    stages={
        "corpus": CorpusStage(data=CorpusData(corpus=[]), tokenizer=Tokenizer(path="teacher")),
        "distill": TrainStage(
            teacher=Teacher(path="teacher"),
            student=Student(),
            data=TokenData(tokens="@corpus/tokens"),
            objective=ToyObjective(),
        ),
    },
    result="distill",
    follows={"teacher.path": ["tokenizer.path"]},
)
'''

# The packages grow by a folder each, as if the three files lay in the repository.
MAIN = """
import sys
from pathlib import Path
import jobs, kd_dist.config.objectives, kd_dist.objectives
here = Path(sys.argv.pop(1))
for package, folder in ((kd_dist.config.objectives, "settings"), (kd_dist.objectives, "objectives"), (jobs, "jobs")):
    package.__path__.append(str(here / folder))
import kd_dist.config.jobs
names = kd_dist.config.jobs.job_names
kd_dist.config.jobs.job_names = lambda: [*names(), "toy"]
from kd_dist.errors import exit_with_message
from kd_dist.train import main
exit_with_message(main)
"""


def toy(tmp_path: Path, *settings: str) -> subprocess.CompletedProcess[str]:
    for folder, text in (("settings", SETTINGS), ("objectives", OBJECTIVE), ("jobs", JOB)):
        (tmp_path / folder).mkdir(exist_ok=True)
        (tmp_path / folder / "toy.py").write_text(text, encoding="utf-8")
    command = [sys.executable, "-c", MAIN, str(tmp_path), "--job", "toy", "--run-id", "a", *settings]
    return subprocess.run([*command, f"--runs-dir={tmp_path}/runs"], cwd=REPOSITORY, capture_output=True, text=True)


def test_a_method_is_its_settings_its_objective_and_a_job(tiny: TinyWorld, tmp_path: Path) -> None:
    settings = [f"data.corpus={tiny.corpus}", f"teacher.path={tiny.teacher}", f"student.config={tiny.student}"]
    settings += ["data.max_length=48", "train.steps=4", "train.global_batch_size=8", "objective.scale=0.5"]
    result = toy(tmp_path, *settings)
    assert result.returncode == 0, result.stderr
    rows = [json.loads(line) for line in (tmp_path / "runs" / "toy" / "a" / "distill" / "metrics.jsonl").open()]
    trained = [row for row in rows if "train/loss" in row]
    assert trained[-1]["train/loss"] == 0.5 * trained[-1]["train/difference"] > 0
    assert (tmp_path / "runs" / "toy" / "a" / "export" / "model.safetensors").exists()


def test_what_a_method_complains_of_is_found_before_work(tiny: TinyWorld, tmp_path: Path) -> None:
    student = json.loads(tiny.student.read_text(encoding="utf-8")) | {"num_hidden_layers": 7}
    (tmp_path / "student.json").write_text(json.dumps(student), encoding="utf-8")
    settings = [f"data.corpus={tiny.corpus}", f"teacher.path={tiny.teacher}", f"student.config={tmp_path}/student.json"]
    result = toy(tmp_path, *settings, "data.max_length=48", "objective.scael=2")
    assert result.returncode == 2
    assert "distill: the toy wants no student of 7 layers" in result.stderr
    assert "unknown option `objective.scael`; did you mean `objective.scale`?" in result.stderr
