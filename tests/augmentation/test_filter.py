"""Only copies whose label the teacher predicts are kept."""

import json
import shutil

import torch
from transformers import (
    AutoTokenizer,
    BertForSequenceClassification,
)

from kd_dist.augmentation.filter import Confidence
from kd_dist.data.prepared_rows import PreparedRows
from kd_dist.data.preprocessing import Preprocessing
from tests.augmentation.world import CPU, ROWS, rows_of
from tests.stages import run_entry


def test_only_copies_that_the_teacher_is_sure_of_are_kept(world, stage_of, capsys):
    settings = {"teacher": world.classifier, "copies": 6}
    everything, sure = stage_of("everything", **settings), stage_of("sure", **settings, keep_confidence=0.4)
    run_entry(everything)
    run_entry(sure)
    model = BertForSequenceClassification.from_pretrained(world.classifier).eval()
    preprocessing, tokenizer = Preprocessing.load(world.tokens), AutoTokenizer.from_pretrained(world.classifier)
    expected = []
    for row in rows_of(everything):
        (encoding,) = preprocessing.encode(tokenizer, [row["text"]])
        with torch.no_grad():
            probability = model(input_ids=torch.tensor([encoding.input_ids])).logits.softmax(-1)[0, row["labels"]]
        if row["copy"] == 0 or probability >= 0.4:
            expected.append(row)
    assert rows_of(sure) == expected
    assert ROWS < len(expected) < len(rows_of(everything))
    assert f"{len(rows_of(everything)) - len(expected):,} refused by the teacher" in capsys.readouterr().out


def test_a_teacher_that_names_its_labels_by_number_alone(world, stage_of, tmp_path):
    shutil.copytree(world.classifier, tmp_path / "named")
    config = json.loads((tmp_path / "named" / "config.json").read_text(encoding="utf-8"))
    config |= {"id2label": {"0": "2", "1": "0", "2": "1"}}
    config.pop("label2id", None)
    (tmp_path / "named" / "config.json").write_text(json.dumps(config), encoding="utf-8")
    confidence = Confidence(str(tmp_path / "named"), PreparedRows(world.tokens), CPU)
    plain = Confidence(str(world.classifier), PreparedRows(world.tokens), CPU)
    rows = [("国家经济",), ("人民生活",), ("北京",)]
    assert confidence(rows, [2, 0, 1]).tolist() == plain(rows, [0, 1, 2]).tolist()
