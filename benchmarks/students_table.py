"""Two more tables made from results/: students of one teacher side by side, and what hint words change."""

from benchmarks.table import RESULTS, evaluated, link, score, table, training_time
from kd_dist.files import read_json

STUDENTS = (
    "data|student|without a teacher|distilled|of the teacher's|parameters|one text|faster|in batches|training|"
    "configuration and figures"
)
HINT_WORDS = "input|accuracy|of rows that mention a hint word|of the others|configuration and figures"

DATA = ("chnsenticorp", "duee_multilabel", "thucnews", "toutiao5")
NAMES = {  # by the end of the name of the folder
    "bigru": "BiGRU, tokens, checked every 50 steps",
    "bilstm": "BiLSTM, tokens",
    "last": "BiLSTM, tokens, last states, by logits",
    "logits": "BiLSTM, tokens, by logits",
    "checked": "BiLSTM, tokens, checked every 50 steps",
    "minilm": "TinyBERT, 4 x 312, after `minilm`",
    "sentence": "BiLSTM, one vector a text",
    "tinybert": "TinyBERT, 4 x 312",
    "unlabelled": "BiLSTM, tokens, with text without labels",
    "words": "BiLSTM, words",
}


def students() -> list[str]:
    """Return what the teacher of each set has taught students, beside what they learn without it."""
    rows = []
    for data, folder in [(name, folder) for name in DATA for folder in sorted(RESULTS.glob(f"{name}_*"))]:
        models = {row["model"]: row for row in evaluated(folder)}
        alone, student = models["student_alone"], models["student"]
        name = NAMES[folder.name.removeprefix(f"{data}_")]
        cells = [data, name, score(alone), score(student), f"{student['quality_kept']:.1%}"]
        cells += [f"{student['parameters'] / 1e6:.1f} M", f"{student['latency_ms']:.2f} ms"]
        cells += [f"{student['latency_ratio']:.0f}x", f"{student['throughput_ratio']:.0f}x"]
        links = link(folder / "job.json", folder / "results.json")
        rows.append([*cells, training_time(folder, "student"), links])
    return table(STUDENTS, rows)


def hint_words() -> list[str]:
    """Return what words of categories before a text change, of rows that mention one and of the others."""
    folder = RESULTS / "hint_words"
    links = link(folder / "job.json", folder / "words.tsv", folder / "evaluation.json")
    rows = [
        [name, *(f"{scores[of]:.4f}" for of in ("all", "with_hints", "without_hints")), links]
        for name, scores in read_json(folder / "evaluation.json")["accuracy"].items()
    ]
    return table(HINT_WORDS, rows)
