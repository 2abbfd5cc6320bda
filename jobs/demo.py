"""The whole way on a small scale: real text, a teacher made from it, a student distilled from that, and the report."""

from kd_dist.sections import (
    Cadence,
    CorpusData,
    CpuResources,
    MlmObjective,
    Optim,
    ReportOptions,
    Student,
    Teacher,
    TinyBertObjective,
    TokenData,
    Tokenizer,
    Train,
)
from kd_dist.stages import Job, PrepareStage, ReportStage, SampleTextStage, TrainStage

TOKENS = TokenData(tokens="@prepare/tokens")
CADENCE = Cadence(log_every_n_steps=10, save_every_n_steps=100, evaluate_every_n_steps=100)

JOB = Job(
    name="demo",
    description="pretrain a small teacher on embedded Chinese text, distil it, and report; minutes on two cores",
    stages={
        "texts": SampleTextStage(),
        "prepare": PrepareStage(
            data=CorpusData(corpus=["@texts/texts"], max_length=64, word_starts=True),
            tokenizer=Tokenizer(vocabulary_size=6000),
            resources=CpuResources(cpus=2, timeout_minutes=30),
        ),
        "pretrain": TrainStage(
            student=Student(config="bert_tiny_4l_128"),
            data=TOKENS,
            objective=MlmObjective(whole_word_masking=True),
            train=Train(steps=500, global_batch_size=64),
            optim=Optim(learning_rate=1e-3),
            cadence=CADENCE,
        ),
        "distill": TrainStage(
            teacher=Teacher(path="@pretrain/export"),
            student=Student(config="bert_tiny_2l_64"),
            data=TOKENS,
            objective=TinyBertObjective(),
            train=Train(steps=300, global_batch_size=64),
            optim=Optim(learning_rate=1e-3),
            cadence=CADENCE,
        ),
        "report": ReportStage(page=ReportOptions(stages=["@pretrain", "@distill"])),
    },
    result="distill",
)
