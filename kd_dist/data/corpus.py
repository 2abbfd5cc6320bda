"""The corpus stage: tokenize text files, once for all runs that ask for the same."""

from pathlib import Path

from kd_dist.config.stages import CorpusStage
from kd_dist.data.corpus_cache import cached_prepare
from kd_dist.data.discovery import find_files, unread_files, unread_note
from kd_dist.data.tokenizers import train_tokenizer
from kd_dist.data.unknown_words import unknown_words_note


def run(stage: CorpusStage, stage_dir: Path, shard: int) -> None:
    """Make `stage_dir`/tokens a link to the prepared corpus, which is built unless it is in the cache.

    Raises:
        CorpusError: no text, or a file that cannot be read; the message names file and line.
    """
    data = stage.data
    files = find_files(data.corpus)
    statistics = cached_prepare(
        cache_dir=stage_dir.parents[2] / "cache" / "corpus",
        place=stage_dir / "tokens",
        files=files,
        tokenizer_path=_tokenizer(stage, stage_dir, files),
        max_length=data.max_length,
        pack=data.pack,
        text_field=data.text_field,
        word_starts=data.word_starts,
        validation_fraction=data.validation_fraction,
        num_workers=data.num_workers,
        max_lines=data.max_lines,
    )
    how = "found in the cache" if statistics["cached"] else f"built in {statistics['seconds']:.0f} s"
    print(f"{stage_dir.name}: {statistics['rows']:,} rows, {statistics['tokens']:,} tokens, {how}", flush=True)
    if unread := unread_files(data.corpus, files):
        print(f"note: {unread_note(unread)}", flush=True)
    if note := unknown_words_note(statistics):
        print(f"note: {note}", flush=True)


def _tokenizer(stage: CorpusStage, stage_dir: Path, files: list[Path]) -> str:
    if stage.tokenizer.path is not None:
        return stage.tokenizer.path
    trained = stage_dir / "tokenizer"
    if not (trained / "tokenizer_config.json").exists():
        data = stage.data
        train_tokenizer(files, trained, stage.tokenizer.vocabulary_size, data.text_field, data.max_lines)
    return str(trained)
