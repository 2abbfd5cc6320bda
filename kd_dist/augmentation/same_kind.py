"""Replace words of a Chinese text by others of the same part of speech.

Source: Tang et al. 2019, "Distilling Task-Specific Knowledge from BERT into Simple Neural Networks", section 3.3, the
second rule. Deviation: function words, numbers and names stay as they are, and parts of speech are the groups of
`kd_dist.augmentation.words`; the paper replaces words of every tag.
"""

import itertools
import random
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator

from kd_dist.augmentation.words import split_words
from kd_dist.errors import RunError

MAX_TEXTS = 20_000  # whose words are counted: jieba takes a minute for some millions of characters


class SameKind:
    """The words of texts by part of speech, each drawn as often as it occurs.

    Args:
        texts: clean texts, of which the first `MAX_TEXTS` are read.
        seen: cuts a text to what training sees of it.
        probability: of a word to be replaced.

    Raises:
        RunError: the texts have no word that may be replaced.
    """

    def __init__(self, texts: Iterable[str], seen: Callable[[str], str], probability: float) -> None:
        self._seen, self._probability = seen, probability
        counts: dict[str, Counter[str]] = defaultdict(Counter)
        for text in itertools.islice(texts, MAX_TEXTS):
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
        """Return the text, as far as training sees it, with some of its words replaced."""
        return "".join(self._parts(text, chance))

    def _parts(self, text: str, chance: random.Random) -> Iterator[str]:
        for word, kind in split_words(self._seen(text), "zh"):
            if kind in self._words and chance.random() < self._probability:
                words, sums = self._words[kind]
                (word,) = chance.choices(words, cum_weights=sums)
            yield word
