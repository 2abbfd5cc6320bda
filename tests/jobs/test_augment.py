"""`augment` turns labelled rows into a folder with their augmented copies."""

from tests.loading import load_job


def test_shards_are_collected_into_the_result() -> None:
    job = load_job("augment", ["encoder.path=MLM", "resources.shards=3"])
    assert job.edges() == {
        "labelled": [],
        "augmentation": ["labelled"],
        "augmented": ["labelled", "augmentation"],
    }
    assert (job.result, job.stages["augmentation"].resources.shards) == ("augmented", 3)


def test_the_encoder_gives_the_tokenizer_and_proposes_the_words() -> None:
    stages = load_job("augment", ["encoder.path=MLM"]).stages
    assert (stages["labelled"].tokenizer.path, stages["augmentation"].encoder.path) == ("MLM", "MLM")
