"""`--options`: every setting of a job once, whole, with its stages, its default and its meaning."""

import difflib
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from kd_dist.config.job import Job
from kd_dist.config.students import MEANING, STUDENTS
from kd_dist.errors import UserError
from launch.columns import terminal_width, wrap

Stages = tuple[str, ...]


@dataclass(frozen=True)
class Option:
    """One `section.key` of a job, or a key of it all; its meaning and its default may differ from stage to stage.

    `followers` take its value unless they are given; a key that no stage has is only there for them.
    """

    key: str
    stages: Stages
    meanings: dict[str, Stages]
    defaults: dict[str, Stages]
    followers: tuple[str, ...] = ()

    @property
    def section(self) -> str:
        return self.key.split(".")[0]

    def descriptions(self) -> list[str]:
        """Return its meaning, or each of them with its stages, and which keys follow it."""
        texts = [
            text if len(self.meanings) == 1 else f"{', '.join(names)}: {text}" for text, names in self.meanings.items()
        ]
        if not self.followers:
            return texts
        return [*texts, f"{'also ' * bool(texts)}sets {', '.join(self.followers)} where these are not given"]


def show_options(job: Job, word: str = "") -> int:
    """Print the settings of a job, or those whose key or meaning contains the word.

    Raises:
        UserError: No setting has the word in its key or meaning; the message names the nearest key.
    """
    options = options_of_job(job)
    found = [option for option in options if _mentions(option, word)]
    if not found:
        raise UserError(
            f"--options {word}: no setting of `{job.name}` has that in its key or meaning; the nearest key is "
            f"`{_nearest_key(word, [option.key for option in options])}`"
        )
    width = terminal_width()
    for section in dict.fromkeys(option.section for option in found):
        of_section = [option for option in found if option.section == section]
        stages = tuple(name for name in job.stages if any(name in option.stages for option in of_section))
        print("\n".join(_section_lines(of_section, stages, width)), end="\n\n")
    print("\n".join(_explanation(width)))
    return 0


def options_of_job(job: Job) -> list[Option]:
    """Return every setting of the job, in the order of its stages, those of a section together."""
    defaults: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    meanings: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    stages: dict[str, list[str]] = defaultdict(list)
    for name, stage in job.stages.items():
        for key in stage.options():
            stages[key].append(name)
            section_name, field_name = key.split(".")
            section = getattr(stage, section_name)
            field = type(section).model_fields[field_name]
            defaults[key][as_typed(getattr(section, field_name))].append(name)
            meanings[key][describe_field(field.description, field.annotation)].append(name)
    if job.students_of:
        stages[STUDENTS] = [job.students_of]
        meanings[STUDENTS][MEANING] = defaults[STUDENTS][as_typed(None)] = [job.students_of]
    sections = list(dict.fromkeys(key.split(".")[0] for key in (*defaults, *job.follows)))
    keys = sorted({**defaults, **job.follows}, key=lambda key: sections.index(key.split(".")[0]))
    return [
        Option(key, tuple(stages[key]), _frozen(meanings[key]), _frozen(defaults[key]), tuple(job.follows.get(key, ())))
        for key in keys
    ]


def _frozen(stages: dict[str, list[str]]) -> dict[str, Stages]:
    return {text: tuple(names) for text, names in stages.items()}


def as_typed(value: Any) -> str:
    """Return a value as it is written on the command line: `none`, `true`, `3,6,9`, `a:x,b:y`."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, dict):
        return ",".join(f"{name}:{item}" for name, item in value.items())
    if isinstance(value, list):
        return ",".join(map(str, value))
    return str(value)


def describe_field(description: str | None, annotation: Any) -> str:
    """Return what a key means, and which values it takes where they are few and the description names not all."""
    text = description or ""
    choices = [choice for choice in _choices(annotation) if isinstance(choice, str)]
    if all(choice in text for choice in choices):
        return text
    return f"{text} ({' or '.join([', '.join(choices[:-1]), choices[-1]])})"


def _choices(annotation: Any) -> tuple[Any, ...]:
    """Return the values of a Literal, also inside of an Annotated or optional type; none of any other type."""
    if get_origin(annotation) is Literal:
        return get_args(annotation)
    if get_origin(annotation) in (Annotated, Union, UnionType):
        return tuple(choice for part in get_args(annotation) for choice in _choices(part))
    return ()


def _mentions(option: Option, word: str) -> bool:
    return any(word.lower() in text.lower() for text in (option.key, *option.descriptions()))


def _nearest_key(word: str, keys: list[str]) -> str:
    """Return the key that is most like a word, which may also stand for its part behind the section."""

    def likeness(key: str) -> float:
        parts = (key, key.split(".")[-1])
        return max(difflib.SequenceMatcher(None, word.lower(), part).ratio() for part in parts)

    return max(keys, key=likeness)


def _section_lines(options: list[Option], stages: Stages, width: int | None) -> list[str]:
    """Describe one section; a key names its stages where they are not all of the section's."""
    lines = wrap(", in ".join([options[0].section, *([", ".join(stages)] if stages else [])]), width)
    for option in options:
        lines += wrap(_key_and_default(option, stages), width, "  ")
        for text in option.descriptions():
            lines += wrap(text, width, "      ")
    return lines


def _key_and_default(option: Option, of_section: Stages) -> str:
    """Return `key = default`, or every default with its stages, the one of most stages first."""
    if not option.stages:
        return option.key
    by_use = sorted(option.defaults.items(), key=lambda item: -len(item[1]))
    texts = [f"{value or '(empty)'} in {', '.join(names)}" for value, names in by_use]
    if len(by_use) == 1 and option.stages == of_section:
        texts = [by_use[0][0] or "(empty)"]
    return f"{option.key} = {'; '.join(texts)}"


def _explanation(width: int | None) -> Iterator[str]:
    yield from wrap("section.key=value sets a key in every stage that has it, stage.section.key=value in one.", width)
    yield from wrap(
        "@stage/output is fed by an earlier stage; only stage.section.key=value sets it, and cuts that edge.", width
    )
