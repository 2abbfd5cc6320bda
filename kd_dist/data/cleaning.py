"""Clean texts."""

import itertools
import re
import unicodedata

# Unicode categories Cc (but for those that count as white space), Cf and Cs: invisible, and alone a surrogate is not
# even text. Written out because asking `unicodedata` for 1.1 million characters takes longer than the whole import.
INVISIBLE = re.compile(
    "[\x00-\x08\x0e-\x1b\x7f-\x84\x86-\x9f\u00ad\u0600-\u0605\u061c\u06dd\u070f\u0890\u0891\u08e2\u180e"
    "\u200b-\u200f\u202a-\u202e\u2060-\u2064\u2066-\u206f\ud800-\udfff\ufeff\ufff9-\ufffb\U000110bd\U000110cd"
    "\U00013430-\U0001343f\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0001\U000e0020-\U000e007f]"
)

_CLOSING = r"[”’」』》〉）)】\]\"']*"

_SENTENCE_END = re.compile(rf"(?:[。！？!?；;…]|\.{{3,}}|\.(?={_CLOSING}\s))+{_CLOSING}\s*")


def clean(text: str) -> str:
    """Return the text in Unicode NFKC, without control, zero-width and format characters, white space runs as one
    space, stripped.

    NFKC also folds full-width forms: "，！？；：" become ",!?;:" and "…" becomes "...".
    """
    return " ".join(unicodedata.normalize("NFKC", INVISIBLE.sub("", text)).split())


def split_sentences(text: str) -> list[str]:
    """Return the sentences; joined they are the text again.

    A sentence ends after 。！？!?；; … or three dots, with the closing quotes and white space that follow; a single
    "." ends it only before white space.
    """
    borders = [0, *(match.end() for match in _SENTENCE_END.finditer(text)), len(text)]
    return [text[start:end] for start, end in itertools.pairwise(borders) if start < end]
