"""Clean texts, and split them into sentences."""

import itertools
import re
import unicodedata

# Unicode categories Cc (except white space), Cf and Cs: invisible characters and lone surrogates. Written out because
# looking up 1.1 million characters in `unicodedata` takes longer than the rest of the import.
INVISIBLE = re.compile(
    "[\x00-\x08\x0e-\x1b\x7f-\x84\x86-\x9f\u00ad\u0600-\u0605\u061c\u06dd\u070f\u0890\u0891\u08e2\u180e"
    "\u200b-\u200f\u202a-\u202e\u2060-\u2064\u2066-\u206f\ud800-\udfff\ufeff\ufff9-\ufffb\U000110bd\U000110cd"
    "\U00013430-\U0001343f\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0001\U000e0020-\U000e007f]"
)

_CLOSING = r"[”’」』》〉）)】\]\"']*"

_SENTENCE_END = re.compile(rf"(?:[。！？!?；;…]|\.{{3,}}|\.(?={_CLOSING}\s))+{_CLOSING}\s*")


def clean(text: str) -> str:
    """Normalize a text to Unicode NFKC, remove control, zero-width and format characters, and collapse white space.

    NFKC also folds full-width forms: "，！？；：" become ",!?;:" and "…" becomes "...".

    Example:
        >>> clean("　Ａ\\u200b，\\n好…  ")
        'A, 好...'
    """
    return " ".join(unicodedata.normalize("NFKC", INVISIBLE.sub("", text)).split())


def split_sentences(text: str) -> list[str]:
    """Split a text into sentences that join to the text again.

    A sentence ends after 。！？!?；; … or three dots, and the closing quotes and white space that follow. A single "."
    ends it only before white space.
    """
    borders = [0, *(match.end() for match in _SENTENCE_END.finditer(text)), len(text)]
    return [text[start:end] for start, end in itertools.pairwise(borders) if start < end]
