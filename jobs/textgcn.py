"""TextGCN, the baseline without an encoder: a graph of documents and words, learned as a whole (Yao et al. 2019)."""

from jobs.tinybert_task import DATA
from kd_dist.config.graph_stages import GraphStage, GraphTrainStage
from kd_dist.config.job import Job, drop_stages
from kd_dist.config.sections.data import PlainTokenData
from kd_dist.config.sections.evaluation import Evaluate, ReportOptions
from kd_dist.config.sections.graph import GraphData, GraphTokenData
from kd_dist.config.sections.models import Model, TokenizerSource
from kd_dist.config.stages import EvaluateStage, LabelledStage, ReportStage, ServeStage, VocabularyStage

WORDS = DATA.model_copy(update={"segment": "word"})
TOKENS = "@labelled/tokens"

JOB = Job(
    name="textgcn",
    description="train a graph of documents and words (TextGCN) on labelled text, the baseline without an encoder",
    stages={
        "words_vocabulary": VocabularyStage(data=WORDS),
        "labelled": LabelledStage(data=WORDS, tokenizer=TokenizerSource(path="@words_vocabulary/tokenizer")),
        "graph": GraphStage(data=GraphData(tokens=TOKENS)),
        "textgcn": GraphTrainStage(data=GraphTokenData(tokens=TOKENS, graph="@graph/graph")),
        "evaluation": EvaluateStage(
            evaluate=Evaluate(models={"textgcn": "@textgcn/export"}), data=PlainTokenData(tokens=TOKENS)
        ),
        "serving": ServeStage(model=Model(path="@textgcn/export"), data=PlainTokenData(tokens=TOKENS)),
        "report": ReportStage(page=ReportOptions(stages=["@evaluation", "@serving"])),
    },
    result="serving",
    seeded=["textgcn"],
)


def adapt(job: Job) -> Job:
    """Leave out a vocabulary by which no rows are cut: their tokenizer is given."""
    used = {name for stage in job.stages.values() for name in stage.inputs()}
    unused = [name for name, stage in job.stages.items() if isinstance(stage, VocabularyStage) and name not in used]
    notes = [f"{name}: left out, since tokenizer.path is given" for name in unused]
    return job.adapted(drop_stages(job.stages, *unused), [*job.notes, *notes])
