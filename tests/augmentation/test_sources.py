"""Sources come from the settings, and settings that cannot work are refused at the start."""

import json
import shutil

import pytest

from kd_dist.errors import RunError
from kd_dist.model_files.model_folders import has_classifier_head, has_language_model_head
from tests.augmentation.world import rows_of
from tests.stages import run_entry


def test_heads_are_seen_without_loading(world, tmp_path):
    assert has_language_model_head(str(world.mlm))
    assert not has_language_model_head(str(world.encoder))
    assert not has_language_model_head(str(world.classifier))
    assert has_language_model_head("google-bert/bert-base-chinese")
    assert has_classifier_head(str(world.classifier))
    assert not has_classifier_head(str(world.mlm))
    shutil.copytree(world.mlm, tmp_path / "bare")
    config = json.loads((tmp_path / "bare" / "config.json").read_text(encoding="utf-8")) | {"architectures": None}
    (tmp_path / "bare" / "config.json").write_text(json.dumps(config), encoding="utf-8")
    assert has_language_model_head(str(tmp_path / "bare"))  # by its weights


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"word_vectors": None}, r"no masked-language-model head. Set augment.mlm_path .* or augment.word_vectors"),
        ({"word_vectors": __file__}, r"augment.word_vectors=.* is not a word2vec file \(it begins with"),
        ({"word_vectors": "/no/such.txt"}, r"augment.word_vectors=/no/such.txt: no such file"),
        ({"mlm_path": "ENCODER"}, r"augment.mlm_path=.*encoder has no masked-language-model head"),
        ({"multi_piece": "mask"}, r"augment.multi_piece=mask needs a masked language model: set augment.mlm_path"),
        ({"keep_confidence": 0.5}, r"augment.keep_confidence needs a classifier, and teacher.path=none is none"),
    ],
)
def test_settings_that_cannot_work_are_said_at_the_start(world, stage_of, settings, message):
    settings = {key: str(world.encoder) if value == "ENCODER" else value for key, value in settings.items()}
    stage_dir = stage_of(**settings)
    with pytest.raises(RunError, match=message):
        run_entry(stage_dir)
    assert not (stage_dir / "shards").exists()


def test_an_encoder_with_a_head_proposes_words_itself(world, stage_of):
    with_encoder, with_path = stage_of("encoder", encoder=world.mlm), stage_of("path", mlm_path=str(world.mlm))
    run_entry(with_encoder)
    run_entry(with_path)
    assert rows_of(with_encoder) == rows_of(with_path)
