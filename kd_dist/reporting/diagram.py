"""The graph of the stages of a job."""

from collections.abc import Iterator, Sequence

from kd_dist.reporting.page import Html, duration, el, join
from kd_dist.reporting.record import StageRecord

BOX_WIDTH, BOX_HEIGHT, GAP_X, GAP_Y = 172, 58, 34, 16

SMALLEST_WIDTH = 1000  # of a drawing that is scaled to fit; from there on it scrolls

Place = tuple[int, int]


def diagram(stages: Sequence[StageRecord]) -> Html:
    """Draw the stages from left to right, each behind those that feed it."""
    place = _places(stages)
    width = (max(x for x, _ in place.values()) + 1) * (BOX_WIDTH + GAP_X) - GAP_X + 4
    height = (max(y for _, y in place.values()) + 1) * (BOX_HEIGHT + GAP_Y) - GAP_Y + 4
    edges = [_edge(place[start], place[end]) for start, end in _direct_edges(stages)]
    boxes = [_box(stage, place[stage.name]) for stage in stages]
    svg = el(
        "svg", *edges, *boxes, width=width, height=height, viewBox=f"-2 -2 {width} {height}", role="img",
        aria_label="stages of the job", class_="diagram", style=f"min-width:{min(width, SMALLEST_WIDTH)}px",
    )  # fmt: skip
    return el("div", svg, class_="scroll", tabindex=0)


def _places(stages: Sequence[StageRecord]) -> dict[str, Place]:
    """Return column and row of each stage; the job lists a stage after those that feed it."""
    place: dict[str, Place] = {}
    for stage in stages:
        column = max((place[other][0] + 1 for other in stage.wired_to if other in place), default=0)
        place[stage.name] = (column, sum(x == column for x, _ in place.values()))
    return place


def _direct_edges(stages: Sequence[StageRecord]) -> Iterator[tuple[str, str]]:
    """Yield the edges without those that a longer path through other stages implies."""
    before: dict[str, set[str]] = {}
    for stage in stages:
        known = [other for other in stage.wired_to if other in before]
        before[stage.name] = set(known).union(*(before[other] for other in known))
        yield from ((other, stage.name) for other in known if not any(other in before[via] for via in known))


def _corner(place: Place) -> Place:
    return place[0] * (BOX_WIDTH + GAP_X), place[1] * (BOX_HEIGHT + GAP_Y)


def _edge(start: Place, end: Place) -> Html:
    x1, y1 = _corner(start)[0] + BOX_WIDTH, _corner(start)[1] + BOX_HEIGHT // 2
    x2, y2 = _corner(end)[0] - 2, _corner(end)[1] + BOX_HEIGHT // 2
    bend = GAP_X // 2
    curve = f"M{x1},{y1} C{x1 + bend},{y1} {x2 - bend},{y2} {x2},{y2}"
    return join([el("path", d=curve, class_="edge"), el("path", d=f"M{x2 - 6},{y2 - 4} l6,4 l-6,4", class_="edge")])


def _box(stage: StageRecord, place: Place) -> Html:
    x, y = _corner(place)
    state, below = stage.state(), _progress(stage)
    name = stage.name if len(stage.name) <= 16 else f"{stage.name[:15]}…"
    return el(
        "g",
        el("title", f"{stage.name}: {state}, {below}"),
        el("rect", x=x, y=y, width=BOX_WIDTH, height=BOX_HEIGHT, rx=10, class_="box"),
        el("circle", cx=x + 18, cy=y + 21, r=5, class_=f"state {class_of(state)}"),
        el("text", name, x=x + 30, y=y + 26, class_="name"),
        el("text", below, x=x + 14, y=y + 45, class_="below"),
    )


def _progress(stage: StageRecord) -> str:
    state, shards = stage.state(), stage.shards()
    if stage.seconds is None:
        return f"{shards[0]} of {shards[1]} shards" if shards else state
    return f"{shards[1]} shards · {duration(stage.seconds)}" if shards else f"{state} · {duration(stage.seconds)}"


def class_of(state: str) -> str:
    """Return the CSS class of a state: good, open or idle."""
    return {"complete": "good", "waiting": "idle", "this page": "idle"}.get(state, "open")
