"""The tiny jobs that are shaken: settings with which each job of `jobs/` runs in seconds."""

import json
from dataclasses import dataclass
from pathlib import Path

from kd_dist.files import read_json, write_json
from tests.conftest import LabelledWorld, TinyWorld
from tests.jobs.test_families import save_encoder, save_xlnet_tokenizer
from tests.models.recurrent_models import write_recurrent_config

TRAINING = [
    "data.max_length=48",
    "train.steps=12",
    "train.global_batch_size=8",
    "train.micro_batch_size=2",
    "cadence.save_every_n_steps=5",
    "cadence.log_every_n_steps=1",
    "cadence.evaluate_every_n_steps=4",
]


@dataclass(frozen=True)
class World:
    """What the jobs read."""

    tiny: TinyWorld
    labelled: LabelledWorld
    masked: Path  # an encoder with a language-model head
    judged: Path
    texts: Path
    recurrent: Path
    xlnet: Path
    fewer_heads: Path  # the architecture of the tiny student with other heads than the teacher's


def make_world(tiny: TinyWorld, labelled: LabelledWorld, folder: Path) -> World:
    """Write the files that the other fixtures lack."""
    from transformers import AutoModelForMaskedLM, AutoTokenizer

    AutoModelForMaskedLM.from_pretrained(tiny.teacher).save_pretrained(folder / "masked")
    AutoTokenizer.from_pretrained(tiny.tokenizer).save_pretrained(folder / "masked")
    texts = folder / "texts.txt"
    texts.write_text("".join(f"第{number}本书很好,值得一读。\n" for number in range(80)), encoding="utf-8")
    judged = folder / "judged.jsonl"
    records = [{"text": text, label: 0.9} for label, text in _rows(labelled)[:50]]  # the other label gets the rest
    records += [{"text": f"第{number}场比赛很好", "sport": 0.8, "finance": 0.2} for number in range(60)]
    judged.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    save_xlnet_tokenizer(tiny.corpus, folder / "pieces")
    xlnet = save_encoder("xlnet", folder / "pieces", folder / "xlnet")
    fewer_heads = folder / "fewer_heads.json"
    write_json(fewer_heads, read_json(tiny.student) | {"num_attention_heads": 3})
    return World(tiny, labelled, folder / "masked", judged, texts, write_recurrent_config(folder), xlnet, fewer_heads)


def settings_of(job: str, world: World) -> list[str]:
    """Return the settings with which a job is shaken."""
    tiny, labelled = world.tiny, world.labelled
    files = [f"data.{split}={labelled.files / split}.tsv" for split in ("train", "validation", "test")]
    student, guard = f"student.config={tiny.student}", "guards.teacher=warn"
    texts = f"data.unlabelled={world.texts}"
    exits = ["objective.branch_width=16", "evaluate.speeds=0,0.5,1", "evaluate.speed=false"]
    own = {
        "finetune": [*files, f"encoder.path={tiny.teacher}"],
        "tinybert_general": [f"data.corpus={tiny.corpus}", f"teacher.path={tiny.teacher}", student],
        "tinybert": [*files, texts, f"data.corpus={tiny.corpus}", f"teacher.path={world.masked}", student, guard,
                     "augment.copies=2", "augmentation.resources.shards=2", "outputs.resources.shards=2"],
        "tinybert_task": [*files, texts, f"teacher.path={labelled.teacher}", student, guard],
        "fastbert": [*files, texts, f"teacher.path={tiny.teacher}", guard, *exits],
        "fastbert_stage1": [texts, f"model.path={labelled.teacher}", *exits[:1]],
        "augment": [*files, f"encoder.path={world.masked}", "augment.copies=2", "resources.shards=2"],
        "rnn": [*files, texts, f"teacher.path={labelled.teacher}", f"student.config={world.recurrent}", guard],
        "soft_labels": [*files, f"data.soft_labels={world.judged}", f"donor.path={labelled.teacher}", student],
        "minilm": [f"data.corpus={tiny.corpus}", f"teacher.path={tiny.teacher}", f"tokenizer.path={tiny.tokenizer}",
                   f"student.config={world.fewer_heads}"],
        "pretrain": [f"data.corpus={tiny.corpus}", f"student.path={world.masked}"],
        "pretrain_xlnet": [f"data.corpus={tiny.corpus}", f"student.path={world.xlnet}", "data.num_workers=1"],
        "cut_vocabulary": [f"data.corpus={tiny.corpus}", f"encoder.path={tiny.teacher}"],
        "ensemble": [*files, f"teachers.paths={labelled.teacher},{labelled.other_teacher}", "data.max_length=48"],
        "textgcn": [*files, "data.max_length=48", "train.epochs=30", "network.hidden_size=8"],
        "granularity": [*files, student, "data.max_length=48"],
        "demo": [f"unlabelled.data.unlabelled={world.texts}", "data.max_rows=60", guard],
    }[job]  # fmt: skip
    without = dict.fromkeys(("cut_vocabulary", "ensemble", "textgcn"), [])
    training = {"augment": TRAINING[:1], "fastbert_stage1": TRAINING[1:], **without}.get(job, TRAINING)
    return [*own, *(item for item in training if job != "demo" or not item.startswith("data."))]


def _rows(labelled: LabelledWorld) -> list[list[str]]:
    return [line.split("\t") for line in (labelled.files / "train.tsv").read_text(encoding="utf-8").splitlines()]
