"""An ensemble gives the weighted mean of its members' predictions, and is a classifier like any other."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from transformers import AutoTokenizer

from kd_dist.config.sections.models import Teachers
from kd_dist.config.stages import EnsembleStage
from kd_dist.data.preprocessing import Preprocessing
from kd_dist.errors import RunError, UserError
from kd_dist.models.classifier import load_classifier, predict_logits
from kd_dist.models.combining import combined, run
from tests.conftest import TinyWorld
from tests.models.random_models import LABELS, random_classifier, random_inputs, save_classifier

CPU = torch.device("cpu")
WITHOUT_KD_DIST = """
import sys
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer
folder, *texts = sys.argv[1:]
model = AutoModelForSequenceClassification.from_pretrained(folder, trust_remote_code=True).eval()
inputs = AutoTokenizer.from_pretrained(folder, trust_remote_code=True)(texts, padding=True, return_tensors="pt")
with torch.no_grad():
    print(model(**inputs).logits.argmax(1).tolist())
try:
    import kd_dist
except ModuleNotFoundError:
    print("without kd_dist")
"""
TASKS = {
    "single_label": ("single_label_classification", lambda logits: logits.softmax(dim=1)),
    "multi_label": ("multi_label_classification", torch.sigmoid),
    "regression": ("regression", lambda logits: logits),
}


def members(folder: Path, tiny: TinyWorld, problem_type: str = "single_label_classification") -> list[Path]:
    """Two classifiers with weights of different widths; the second numbers the labels the other way round."""
    one = {"num_labels": 1, "id2label": {0: "score"}, "label2id": {"score": 0}}
    turned = {"id2label": dict(enumerate(LABELS[::-1])), "label2id": {n: i for i, n in enumerate(LABELS[::-1])}}
    settings = {"problem_type": problem_type} | (one if problem_type == "regression" else {})
    wide = {"initializer_range": 0.4}
    first = save_classifier(folder / "first", tiny.tokenizer, **settings | wide)
    other = settings if problem_type == "regression" else settings | turned
    second = save_classifier(folder / "second", tiny.tokenizer, **other | wide, num_hidden_layers=3)
    return [first, second]


def write(folder: Path, paths: list[Path], **settings: object) -> Path:
    folder.mkdir(exist_ok=True)
    run(EnsembleStage(teachers=Teachers(paths=list(map(str, paths)), **settings)), folder, 0)
    return folder / "export"


@pytest.mark.parametrize("task", TASKS)
def test_the_prediction_is_the_weighted_mean_of_the_members_predictions_by_name(
    tiny: TinyWorld, tmp_path: Path, task: str
) -> None:
    problem_type, probabilities = TASKS[task]
    paths = members(tmp_path, tiny, problem_type)
    first, second = (load_classifier(path, CPU) for path in paths)
    model = combined([first, second], [0.25, 0.75], [1.0, 2.0])
    inputs = random_inputs([9, 7, 3])
    order = [second.labels.index(name) for name in first.labels]
    with torch.no_grad():
        own, other = first.model(**inputs).logits, second.model(**inputs).logits[:, order]
        expected = 0.25 * probabilities(own) + 0.75 * probabilities(other / 2)
        torch.testing.assert_close(probabilities(model(**inputs).logits), expected)
    assert not torch.allclose(probabilities(own), probabilities(other), atol=0.05)


def test_an_export_predicts_with_and_without_this_package(tiny: TinyWorld, tmp_path: Path) -> None:
    paths = members(tmp_path, tiny)
    for path in paths:
        Preprocessing(max_length=24, segment="char").save(path)
    export = write(tmp_path / "stage", paths, weights=[1.0, 3.0])
    assert Preprocessing.load(export) == Preprocessing(max_length=24, segment="char")
    classifier = load_classifier(export, CPU)
    assert (classifier.labels, classifier.task, classifier.num_layers) == (LABELS, "single_label", 5)
    texts = ["今天的比赛很好看", "股市"]
    rows, _ = classifier.encode(Preprocessing(max_length=24), texts, None)
    together = predict_logits(classifier, rows)
    alone = [predict_logits(classifier, [row])[0] for row in rows]
    torch.testing.assert_close(torch.from_numpy(together), torch.stack(list(map(torch.from_numpy, alone))))
    command = [sys.executable, "-I", "-c", WITHOUT_KD_DIST, str(export), *texts]
    found = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert found.returncode == 0, found.stderr
    assert found.stdout.splitlines() == [str(together.argmax(axis=1).tolist()), "without kd_dist"]


def test_members_that_do_not_fit_are_named_with_the_reason(tiny: TinyWorld, tmp_path: Path) -> None:
    first, second = members(tmp_path, tiny)
    names = {"id2label": {0: "体育", 1: "财经", 2: "军事"}, "label2id": {"体育": 0, "财经": 1, "军事": 2}}
    foreign = save_classifier(tmp_path / "foreign", tiny.tokenizer, **names)
    with pytest.raises(UserError, match=r"foreign and .*first: labels of model and data differ.*'旅游'"):
        write(tmp_path / "a", [first, foreign])
    numbers = save_classifier(tmp_path / "numbers", tiny.tokenizer, num_labels=1, problem_type="regression")
    with pytest.raises(RunError, match=r"numbers cannot be in one ensemble with .*first: one is for regression"):
        write(tmp_path / "b", [first, numbers])
    turned, names = tmp_path / "xlnet", AutoTokenizer.from_pretrained(tiny.tokenizer)
    random_classifier("xlnet", vocab_size=len(names)).save_pretrained(turned)
    names.save_pretrained(turned)
    with pytest.raises(RunError, match="it expects padding on the left of a row"):
        write(tmp_path / "e", [first, turned])
    content = json.loads((second / "tokenizer.json").read_text(encoding="utf-8"))
    vocabulary = content["model"]["vocab"]
    vocabulary["国"], vocabulary["中"] = vocabulary["中"], vocabulary["国"]
    (second / "tokenizer.json").write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(RunError, match=r"their tokenizers differ\. .* use --job soft_labels"):
        write(tmp_path / "c", [first, second])
    same = save_classifier(tmp_path / "same", tiny.tokenizer)
    Preprocessing(max_length=24).save(same)
    with pytest.raises(RunError, match=r"their preprocessing\.json differ"):
        write(tmp_path / "d", [first, same])


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"paths": ["a"]}, "teachers.paths needs two or more classifiers, as a,b,c"),
        ({"paths": "a,b", "weights": "1,2,3"}, "teachers.weights has 3 numbers for 2 classifiers"),
        ({"paths": "a,b", "temperatures": "2"}, "teachers.temperatures has 1 numbers for 2 classifiers"),
    ],
)
def test_settings_that_do_not_fit_are_refused(settings: dict[str, object], problem: str) -> None:
    assert EnsembleStage(teachers=Teachers(**settings)).problems("ensemble") == [problem]


def test_weights_are_shares_and_equal_by_default() -> None:
    assert Teachers(paths="a,b", weights="1,3").shares() == [0.25, 0.75]
    assert Teachers(paths="a,b").shares() == [0.5, 0.5]
    assert Teachers(paths="a,b").temperatures_of_all() == [1.0, 1.0]
