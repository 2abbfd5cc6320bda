"""Replace words of a Chinese text by others of the same part of speech.

Source: Tang et al. 2019, "Distilling Task-Specific Knowledge from BERT into Simple Neural Networks", section 3.3, the
second rule. Deviation: function words, numbers and names stay as they are, and parts of speech are the groups of
`kd_dist.augmentation.words`; the paper replaces words of every tag.
"""

import itertools
import random
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator

from kd_dist.augmentation.window import Window
from kd_dist.augmentation.words import split_words
from kd_dist.data.prepared_rows import TEXTS, PreparedRows
from kd_dist.data.tokenizers import load_fast_tokenizer
from kd_dist.errors import RunError

MAX_ROWS = 20_000  # whose words are counted: jieba reads some 60,000 characters a second


class SameKind:
    """The words of texts by part of speech, each drawn as often as it occurs.

    Args:
        texts: clean texts.
        seen: cuts a text to what training sees of it.
        probability: of a word to be replaced, unless the word that is drawn is the same.

    Raises:
        RunError: the texts have no word that may be replaced.
    """

    def __init__(self, texts: Iterable[str], seen: Callable[[str], str], probability: float) -> None:
        self._seen, self._probability = seen, probability
        counts: dict[str, Counter[str]] = defaultdict(Counter)
        for text in texts:
            for word, kind in split_words(seen(text), "zh"):
                if kind is not None:
                    counts[kind][word] += 1
        if not counts:
            raise RunError(
                "perturb.replace_words: the training rows have no Chinese noun, verb or adjective; leave it out"
            )
        self._words = {
            kind: (list(found), list(itertools.accumulate(found.values()))) for kind, found in counts.items()
        }

    def replaced(self, text: str, chance: random.Random) -> str:
        """Return the text, as far as training sees it, with some of its words replaced; they may be none."""
        return "".join(self._parts(text, chance))

    def _parts(self, text: str, chance: random.Random) -> Iterator[str]:
        for word, kind in split_words(self._seen(text), "zh"):
            if kind in self._words and chance.random() < self._probability:
                words, sums = self._words[kind]
                (word,) = chance.choices(words, cum_weights=sums)
            yield word


class ReplacedCopies:
    """Make copies of labelled rows in which words are replaced, from the texts of the rows.

    The words are those of all rows, or of `MAX_ROWS` rows at equal distances.

    Args:
        source: the rows.
        probability: as `SameKind`.

    Raises:
        RunError: what `SameKind` raises, and rows without texts.
    """

    def __init__(self, source: PreparedRows, probability: float) -> None:
        rows = source.dataset("train")
        columns = [name for name in TEXTS if name in rows.column_names]
        if not columns:
            raise RunError(
                f"perturb.replace_words needs the texts of rows, and {source.folder} has tokens alone: give the tokens "
                "of a labelled stage, or leave it out"
            )
        self._texts = rows.select_columns(columns)
        self._held_out = source.held_out_texts()
        self._preprocessing = source.preprocessing
        self._tokenizer = load_fast_tokenizer(str(source.tokenizer_folder))
        self._seen = Window(source)
        some = self._texts.select(range(0, len(rows), -(-len(rows) // MAX_ROWS)))
        self._words = SameKind((text for row in some for text in row.values()), self._seen, probability)

    def __call__(self, at: int, chance: random.Random) -> dict[str, list[int]] | None:
        """Return the columns of a copy of row number `at`; None if no word changed, or it is a held-out row then."""
        texts = self._texts[at].values()
        replaced = [self._words.replaced(text, chance) for text in texts]
        if replaced == list(map(self._seen, texts)) or tuple(replaced) in self._held_out:
            return None
        (encoding,) = self._preprocessing.encode_clean(self._tokenizer, *([text] for text in replaced))
        types = {} if encoding.token_type_ids is None else {"token_type_ids": encoding.token_type_ids}
        return {"input_ids": encoding.input_ids} | types
