"""`soft_labels` goes from judgements in files to a served classifier, without a teacher."""

import json
import subprocess
import sys
from pathlib import Path

from tests.conftest import LabelledWorld
from tests.jobs.runs import run_job
from tests.loading import load_job
from tests.ranks import ROOT


def test_no_stage_needs_a_teacher() -> None:
    job = load_job("soft_labels", ["donor.path=DIR"])
    stages = job.stages
    assert list(stages) == ["labelled", "outputs", "distill", "alone", "evaluation", "serving", "report"]
    assert stages["distill"].teacher is None
    assert stages["distill"].initialized_from() == stages["alone"].initialized_from() == "DIR"
    assert stages["labelled"].tokenizer.path == "DIR"
    assert stages["distill"].data.unlabelled_tokens == ["@outputs/tokens"]
    assert job.notes[0].startswith("the student without distillation starts from the weights of DIR, pruned")


def test_both_students_are_trained_for_equally_long() -> None:
    stages = load_job("soft_labels", ["donor.path=DIR", "distill.train.epochs=7"]).stages
    assert stages["alone"].train == stages["distill"].train


def test_the_job_goes_from_files_to_a_served_classifier(labelled: LabelledWorld, tmp_path: Path) -> None:
    rows = (line.split("\t") for line in (labelled.files / "train.tsv").read_text(encoding="utf-8").splitlines())
    records = [{"text": text, label: 0.9} for label, text in list(rows)[:50]]  # the other label gets the rest
    records += [{"text": f"第{number}场比赛很好", "sport": 0.8, "finance": 0.2} for number in range(40)]
    judged = tmp_path / "judged.jsonl"
    judged.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    settings = [f"data.{split}={labelled.files / split}.tsv" for split in ("train", "validation", "test")]
    settings += [f"data.soft_labels={judged}", f"donor.path={labelled.teacher}", f"student.config={labelled.student}"]
    settings += ["data.max_length=48", "train.steps=4"]
    run_dir, done = run_job("soft_labels", tmp_path, *settings)
    assert "50 of 60 training rows were judged (83.3%)" in done.stdout
    found = json.loads((run_dir / "results.json").read_text(encoding="utf-8"))
    assert [row["model"] for row in found if row["stage"] == "evaluation"] == ["student_alone", "student"]
    assert (run_dir / "export" / "onnx" / "model.onnx").exists()
    page = (run_dir / "report" / "index.html").read_text(encoding="utf-8")
    assert "The distilled student has accuracy " in page
    assert "of the teacher's" not in page
    assert "training rows judged" in page
    assert "The soft labels are fit to teach: " in page


def test_a_column_that_is_no_class_stops_the_run_with_one_message(labelled: LabelledWorld, tmp_path: Path) -> None:
    judged = tmp_path / "judged.csv"
    judged.write_text("text,finance,sprot\n一,0.5,0.5\n", encoding="utf-8")
    settings = [f"data.train={labelled.files / 'train.tsv'}", f"data.soft_labels={judged}"]
    settings += [f"donor.path={labelled.teacher}", f"student.config={labelled.student}", "data.max_length=48"]
    command = [sys.executable, str(ROOT / "launch" / "slurm.py"), "--job", "soft_labels", "--cluster", "local"]
    result = subprocess.run([*command, *settings], cwd=tmp_path, capture_output=True, text=True)
    assert result.returncode == 1
    assert f"{judged}, line 2: not among the classes of the labelled rows: 'sprot'; did you mean `sport`?" in (
        result.stdout + result.stderr
    )
    assert "Traceback" not in result.stdout + result.stderr
