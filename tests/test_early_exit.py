"""One import is all that an exported model with branches needs."""

import json
import subprocess
import sys
from pathlib import Path

import torch

from kd_dist.config.paths import REPOSITORY
from tests.models.random_models import cut, random_fastbert, random_inputs
from tests.models.test_early_exit import LENGTHS, rule_at

FRESH = """
import json, sys
import kd_dist.early_exit
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer
model = AutoModelForSequenceClassification.from_pretrained(sys.argv[1])
inputs = {name: torch.tensor(rows) for name, rows in json.load(sys.stdin).items()}
exits = model.classify([inputs], model.exit_rule())
print(json.dumps({"logits": exits.logits_NC.tolist(), "layers": exits.layers_N.tolist()}))
"""


def test_a_fresh_process_needs_one_import_to_load_it(tmp_path: Path) -> None:
    model, (batch,) = random_fastbert(), cut(random_inputs(LENGTHS), 16)
    rule = rule_at(model, [batch], 0.4, "entropy")
    model.config.update({"thresholds": list(rule.thresholds), "top_k": 3})
    model.save_pretrained(tmp_path)
    rows = json.dumps({name: tensor.tolist() for name, tensor in batch.items()})
    done = subprocess.run(
        [sys.executable, "-c", FRESH, str(tmp_path)], input=rows, cwd=REPOSITORY, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    found, expected = json.loads(done.stdout), model.classify([batch], rule)
    assert found["layers"] == expected.layers_N.tolist()
    torch.testing.assert_close(torch.tensor(found["logits"]), expected.logits_NC, atol=1e-6, rtol=1e-5)
