"""Markup that escapes what it is given, numbers for reading, and the style sheet of the page, light and dark."""

import html
import json
import math
from collections.abc import Iterable, Sequence
from typing import Any, Literal

from kd_dist.evaluation.pictures.drawing import LIGHT
from kd_dist.runs.metrics import is_number

MISSING = "—"


class Html(str):
    """Text that is markup already; any other text is escaped on its way into an element."""

    __slots__ = ()


class Amount(Html):
    """Markup that is aligned to the right, as a number is."""

    __slots__ = ()


VOID = {"meta", "br"}


def el(tag: str, *children: Any, **attributes: Any) -> Html:
    """Return an element.

    Args:
        tag: its name.
        children: texts, which are escaped, and markup.
        attributes: by name; a trailing underscore is dropped and inner ones become hyphens (`class_`, `aria_label`).
    """
    named = "".join(f' {key.rstrip("_").replace("_", "-")}="{_escaped(value)}"' for key, value in attributes.items())
    if tag in VOID:
        return Html(f"<{tag}{named}>")
    return Html(f"<{tag}{named}>{join(children)}</{tag}>")


def _escaped(value: Any) -> str:
    return value if isinstance(value, Html) else html.escape(str(value))


def join(children: Iterable[Any]) -> Html:
    """Return texts, which are escaped, and markup as one piece of markup."""
    return Html("".join(_escaped(child) for child in children))


def document(title: str, *body: Any) -> str:
    """Return a whole HTML document without scripts, which loads nothing from elsewhere."""
    head = el(
        "head",
        el("meta", charset="utf-8"),
        el("meta", name="viewport", content="width=device-width, initial-scale=1"),
        el("meta", name="color-scheme", content="light dark"),
        el("title", title),
        el("style", Html(STYLE)),
    )
    return "<!doctype html>\n" + el("html", head, el("body", el("main", *body)), lang="en") + "\n"


def table(head: Sequence[str], rows: Sequence[Sequence[Any]], class_: str = "") -> Html:
    """Return a table that scrolls if it is too wide; columns that hold a number anywhere are aligned to the right."""
    sides = ["number" if any(map(_is_amount, column)) else "text" for column in zip(*rows, strict=True)]
    cells = [el("th", name, scope="col", class_=side) for name, side in zip(head, sides, strict=True)]
    body = [
        el("tr", *(el("td", cell(value), class_=side) for value, side in zip(row, sides, strict=True))) for row in rows
    ]
    whole = el("table", el("thead", el("tr", *cells)), el("tbody", *body))
    return el("div", whole, class_=f"scroll {class_}".strip(), tabindex=0)


def section(title: str, *children: Any, note: str = "") -> Html:
    """Return a section under a heading, with a note beside it."""
    heading = el("h2", title, el("small", note) if note else "")
    return el("section", heading, *children)


def missing(text: str) -> Html:
    """Return a box that says what is not there."""
    return el("p", text, class_="missing")


def verdict(state: Literal["good", "open", "idle"], *children: Any) -> Html:
    """Return a box with what the figures mean: good, a warning (`open`), or neither."""
    return el("p", *children, class_=f"verdict {state}")


def facts(named: dict[str, Any]) -> Html:
    """Return names with their values, in columns."""
    return el("dl", *(el("div", el("dt", key), el("dd", cell(value))) for key, value in named.items()), class_="facts")


def folded(summary: str, *content: Any, is_open: bool = False, note: str = "") -> Html:
    """Return content that the reader can unfold."""
    heading = el("summary", summary, el("small", note) if note else "")
    return el("details", heading, *content, **({"open": ""} if is_open else {}))


def tile(title: str, value: str, note: str) -> Html:
    """Return one of the large figures at the top of the page."""
    return el("div", el("span", title), el("strong", value), el("small", note), class_="tile")


def bar(length: float) -> Html:
    """Return a bar as long as a share of its cell."""
    return el("span", el("i", style=f"width:{length:.1%}"), class_="bar")


def _is_amount(value: Any) -> bool:
    return is_number(value) or isinstance(value, Amount)


def cell(value: Any) -> Any:
    """Return a value of a table in a form for reading."""
    if isinstance(value, Html):
        return value
    if value is None:
        return MISSING
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return number(value)
    return setting(value)


def setting(value: Any) -> str:
    """Return a value as it would be written in a configuration."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def number(value: float) -> str:
    """Return four significant digits."""
    if not math.isfinite(value):
        return str(value)
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:#.4g}" if value == 0 or abs(value) >= 1e-3 else f"{value:.3e}"


def count(value: float) -> str:
    """Return three significant digits, in thousands (k), millions (M) or billions (B)."""
    for size, unit in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:.3g} {unit}"
    return f"{value:.3g}"


def duration(seconds: float) -> str:
    """Return a time in hours and minutes, minutes and seconds, or seconds."""
    if seconds < 60:
        return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.1f} s"
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours} h {minute:02} min" if hours else f"{minute} min {second:02} s"


def share(value: float) -> str:
    """Return a percentage."""
    return f"{value:.1%}"


def times(value: float) -> str:
    """Return a ratio such as 4.4×."""
    return f"{value:.0f}×" if value >= 100 else f"{value:.1f}×" if value >= 0.95 else f"{value:.2f}×"


_LIGHT_COLOURS = {
    "ink": LIGHT.ink,
    "muted": LIGHT.muted,
    "line": LIGHT.grid,
    "card": LIGHT.paper,
    "open": LIGHT.wrong,
} | {f"series-{number}": colour for number, colour in enumerate(LIGHT.series, start=1)}

STYLE = (
    f":root{{{';'.join(f'--{name}:{colour}' for name, colour in _LIGHT_COLOURS.items())}}}"
    + """
:root{--paper:#f6f7f9;--good:#0a7f4f;--good-soft:#dff5ea;--open-soft:#fdefd8}
@media screen and (prefers-color-scheme:dark){:root{--paper:#101216;--card:#191c22;--ink:#e8eaee;--muted:#98a2b0;
--line:#2c313a;--good:#4ade9b;--open:#fbb454;--good-soft:#12352a;--open-soft:#3a2a12;--series-1:#6ba2ff;
--series-2:#ff9f4a;--series-3:#3ecf98;--series-4:#c084fc;--series-5:#fb6f8d;--series-6:#38c6e4;--series-7:#d3c34a;
--series-8:#9aa8bd}}
*{box-sizing:border-box}
body{margin:0;background:var(--paper);color:var(--ink);font:15px/1.55 system-ui,-apple-system,"Segoe UI",Roboto,
"Helvetica Neue","PingFang SC","Hiragino Sans GB","Microsoft YaHei","Noto Sans CJK SC","Source Han Sans SC",
"WenQuanYi Micro Hei",sans-serif;font-variant-numeric:tabular-nums;-webkit-text-size-adjust:100%}
main{max-width:1180px;margin:0 auto;padding:40px 20px 72px}
header{margin-bottom:28px}
header p{margin:4px 0}
.kicker{font-size:12px;letter-spacing:.08em;text-transform:uppercase;color:var(--muted)}
h1{margin:2px 0 6px;font-size:32px;line-height:1.2;letter-spacing:-.02em;display:flex;flex-wrap:wrap;gap:6px 14px;
align-items:center;overflow-wrap:anywhere}
.badge{font-size:13px;font-weight:600;letter-spacing:0;padding:3px 11px;border-radius:99px}
.badge.good{color:var(--good);background:var(--good-soft)}
.badge.open{color:var(--open);background:var(--open-soft)}
.muted,h2 small,.unit,small{color:var(--muted)}
.lead{font-size:18px;line-height:1.45;max-width:60em}
section{margin-top:44px}
h2{font-size:20px;letter-spacing:-.01em;margin:0 0 14px;overflow-wrap:anywhere}
h2 small{font-size:13px;font-weight:400;letter-spacing:0;margin-left:10px}
h3{font-size:14px;margin:18px 0 8px;font-weight:600}
h3::first-letter,dt::first-letter,.tile span::first-letter{text-transform:uppercase}
code{font:.92em ui-monospace,SFMono-Regular,Menlo,Consolas,monospace}
.tiles{display:flex;flex-wrap:wrap;gap:12px}
.tile,figure,details,.scroll,.facts,.missing{background:var(--card);border:1px solid var(--line);border-radius:12px}
.tile{flex:1 1 150px;padding:14px 16px;display:flex;flex-direction:column;gap:1px;min-width:min-content}
.tile span{font-size:13px;color:var(--muted)}
.tile strong{white-space:nowrap;font-size:21px;font-weight:650;letter-spacing:-.02em;line-height:1.35}
.tile small{font-size:12px}
.figures.pair{grid-template-columns:repeat(auto-fill,minmax(min(100%,440px),1fr));margin-top:14px}
.figures{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,330px),1fr));gap:14px}
figure{margin:0;padding:14px 14px 8px;min-width:0;break-inside:avoid;display:flex;flex-direction:column}
figcaption{margin-bottom:8px;line-height:1.4}
.unit{font-size:12px;margin-left:8px}
.legend{display:flex;flex-wrap:wrap;gap:0 14px;font-size:12px;color:var(--muted)}
.legend i{display:inline-block;margin-right:6px;vertical-align:middle}
.dash{width:14px;height:3px;border-radius:2px}
.dot{width:8px;height:8px;border-radius:50%}
.legend .sign{transform-origin:center;vertical-align:-1px}
.rule{width:0;height:11px;border-left:2px dashed var(--muted);margin-left:4px}
.rule.level{width:14px;height:0;border-left:0;border-top:2px dashed var(--muted);margin-left:0}
.confusion{overflow-x:auto;border:0;border-radius:0;background:none}
.confusion svg{margin:0 auto}
.wide,.below-facts{margin-top:14px}
.wide-drawing{overflow-x:auto}
details>.figures{padding:0 14px 14px}
details>.missing{margin:0 14px 14px}
details figure{background:var(--paper)}
figure svg{display:block;overflow:visible;width:100%;height:auto;margin-top:auto;stroke-linejoin:round}
figure svg text{font-family:inherit!important}
.scroll{overflow-x:auto}
.diagram{display:block;margin:18px;max-width:calc(100% - 36px);height:auto}
.box{fill:var(--paper);stroke:var(--line)}
.edge{fill:none;stroke:var(--muted);stroke-width:1.4}
.state.good{fill:var(--good)}
.state.open{fill:var(--open)}
.state.idle{fill:none;stroke:var(--muted);stroke-width:1.6}
.name{font-size:14px;font-weight:600;fill:var(--ink)}
.below{font-size:12px;fill:var(--muted)}
table{border-collapse:collapse;width:100%;font-size:14px}
th,td{padding:8px 14px;text-align:left;white-space:nowrap;border-bottom:1px solid var(--line)}
tbody tr:last-child td{border-bottom:0}
th{font-size:12px;font-weight:600;color:var(--muted)}
td.number,th.number{text-align:right}
.missing{padding:14px 16px;margin:0 0 14px;color:var(--muted);border-style:dashed;overflow-wrap:anywhere}
figure .missing{border:0;padding:24px 0;margin:auto}
details{margin-top:10px;overflow:hidden}
summary{cursor:pointer;padding:10px 16px;font-weight:600;overflow-wrap:anywhere}
details .scroll{border:0;border-top:1px solid var(--line);border-radius:0}
.settings td{white-space:normal;overflow-wrap:anywhere;padding:5px 16px}
.settings th:first-child{width:36%}
.wrapping td{white-space:pre-line;overflow-wrap:anywhere;min-width:120px;vertical-align:top}
.wrapping td div+div{margin-top:4px}
.models small{display:block}
.sign{display:inline-block;width:10px;height:10px;border-radius:50%;border:2px solid var(--c);background:var(--c);
margin-right:9px}
.sign.hollow{background:none}
.sign.square{border-radius:1px}
.sign.diamond{border-radius:1px;transform:rotate(45deg) scale(.85)}
.bars .bar{display:block;width:min(32vw,340px)}
.bar i{display:block;height:12px;min-width:2px;border-radius:3px;background:var(--series-1)}
mark{color:inherit;background:var(--good-soft);border-bottom:2px solid var(--good)}
.verdict{margin:0 0 14px;padding:12px 16px;border-radius:12px;border:1px solid var(--line);background:var(--card);
border-left:4px solid var(--muted)}
.verdict.good{border-left-color:var(--good)}
.verdict.open{border-left-color:var(--open);background:var(--open-soft)}
.notes{margin:14px 0;padding-left:20px;color:var(--muted)}
.note{font-size:13px;margin:12px 2px 0}
summary small{font-weight:400;margin-left:10px}
details ul{margin:0;padding:0 16px 12px 34px;overflow-wrap:anywhere}
.facts{margin:0;padding:6px 16px;display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,240px),1fr));
column-gap:32px}
.facts div{display:flex;justify-content:space-between;gap:14px;padding:6px 0;min-width:0}
.facts dt{color:var(--muted)}
.facts dd{margin:0;min-width:25%;text-align:right;overflow-wrap:anywhere}
@media(max-width:560px){main{padding:24px 14px 48px}h1{font-size:26px}section{margin-top:34px}
.tiles{gap:8px}.tile{flex-basis:150px;padding:11px 13px}.tile strong{font-size:18px}}
@media print{:root{--paper:#fff}body{font-size:12px}main{max-width:none;padding:0}
.tile,figure,tr,.facts div{break-inside:avoid}h2{break-after:avoid}.scroll{overflow:visible}
details::details-content{content-visibility:visible;height:auto}}
"""
)
