"""The vocabulary stage: BERT's tokenizer with jieba's words and the characters of labelled texts.

A word without a token of its own is read as its characters, so a rare word is not lost.
"""

from collections import Counter
from pathlib import Path

from kd_dist.config.stages import VocabularyStage
from kd_dist.data.kept_blocks import FOLDER, kept_until_done
from kd_dist.data.splits import load_splits
from kd_dist.data.vocabulary_files import SPECIAL_TOKENS, read_vocabulary
from kd_dist.data.word_tokenizer import MIN_COUNT, count_words, frequent_pieces
from kd_dist.errors import CorpusError
from kd_dist.files import replaced_folder


def run(stage: VocabularyStage, stage_dir: Path, shard: int) -> None:
    """Write `stage_dir`/tokenizer, of the training texts alone: held-out texts are to be as new as any.

    Raises:
        CorpusError: what `load_splits` and `read_vocabulary` raise, or no word of the texts is frequent.
    """
    from transformers import BertTokenizer

    settings = stage.vocabulary
    if settings.file is not None:
        tokens, source = read_vocabulary(Path(settings.file)), settings.file
    else:
        with kept_until_done(stage_dir / FOLDER) as blocks:
            rows = load_splits(stage.data, blocks)[0]["train"]
            texts = (text for row in rows for text in row.key if text is not None)
            tokens, source = tokens_of(count_words(texts), settings.words), f"{len(rows):,} training rows"
    num_words = sum(len(token.removeprefix("##")) > 1 and token not in SPECIAL_TOKENS for token in tokens)
    if settings.words and not num_words:
        raise CorpusError(
            f"no word of {source} is frequent ({MIN_COUNT} times in training texts), and characters alone would be "
            "left: give more texts or a vocabulary of words (vocabulary.file=vocab.txt), or set vocabulary.words=0"
        )
    with replaced_folder(stage_dir / "tokenizer") as (_, output):
        ids = {token: number for number, token in enumerate(tokens)}
        BertTokenizer(vocab=ids).save_pretrained(output)
    print(f"{stage_dir.name}: {num_words:,} words, {len(tokens):,} tokens in all, of {source}", flush=True)


def tokens_of(counts: Counter[str], num_words: int) -> list[str]:
    """Return the tokens of a vocabulary: special ones, then words and characters, frequent ones first.

    Args:
        counts: Words, as `count_words` returns them.
        num_words: Words that get a token, at most.
    """
    from tokenizers import normalizers, pre_tokenizers

    normalize = normalizers.BertNormalizer(lowercase=True).normalize_str
    cut = pre_tokenizers.BertPreTokenizer().pre_tokenize_str
    normal: Counter[str] = Counter()
    for word, count in counts.items():
        normal["".join(normalize(word).split())] += count  # the normalizer puts spaces around Chinese characters
    del normal[""]
    pieces = frequent_pieces(normal, num_words)
    inner = [f"##{piece}" for piece in pieces if len(piece) == 1 and len(cut(normalize(f"a{piece}"))) == 1]
    return list(dict.fromkeys([*SPECIAL_TOKENS, *pieces, *inner]))
