"""Number sense: a slider over N shows what the place-value networks make of it; below, the study's plots."""

from __future__ import annotations

import base64
from typing import Any

import gradio as gr

from chai_app.errors import BadRequest
from chai_app.numbers import count_likeness
from chai_app.settings import PROGRAM, SHIPPED

from .bridge import Act, Answer
from .markup import Markup, join, tag
from .studio import Studio

_PICTURES = SHIPPED / "docs" / "pictures"
_FIRST = 9
_SIZE = 360
_SHOWN = (
    ("similarity", "Hidden states of N and N + 1 are less alike where the tens change, if numbers have places."),
    ("plane", "The hidden space of the first network: tens, ones, and for comparison the count list's."),
    ("curriculum", "Ten more numbers at each line: those learned before blur, recover and go on being sharpened."),
    ("counting", "A recurrent network trained on three digits counts on, for it keeps the carry in one direction."),
    ("likeness", "How alike a donor's count is to the one that is wanted, by cosine and along the counting path."),
)


def build_numbers_page(part: Any) -> None:
    """Lay the page out. Called within a tab."""
    slider = tag(
        "label",
        tag("span", "N"),
        tag("input", type="range", min=0, max=98, value=_FIRST, data_param="numbers.n", style="width:100%"),
        cls="c-field",
    )
    about = "Networks that learn to count, and what the cache takes from them: how alike two counts are."
    gr.HTML(
        tag("section", tag("h2", "Number sense", cls="c-h2"), tag("p", about), slider, cls="c-panel"),
        js_on_load=None,
        apply_default_css=False,
    )
    part("numbers-number")
    part("numbers-study")


def _view(studio: Studio, args: dict[str, Any]) -> Answer:
    try:
        number = int(args.get("n", _FIRST))
    except (TypeError, ValueError):
        number = -1
    if not 0 <= number <= 98:
        raise BadRequest("N is a whole number from 0 to 98: move the slider.")
    html = {"numbers-number": _number(number)}
    if "n" not in args:  # the plots stay as they are while the slider moves
        html["numbers-study"] = _study()
    return {"html": html}


def _number(number: int) -> Markup:
    import torch

    from chai_app.numbers.make_assets import shipped_networks
    from chai_app.numbers.measures import plane

    networks = shipped_networks()
    everyone = torch.arange(100)
    states = networks.hidden(everyone)
    points = plane(states[:1], everyone // 10)[0].tolist()
    confidence = float(networks.confidence(torch.tensor([number]))[0, 0])
    digits = networks.logits(torch.tensor([number]))[0, 0].argmax(-1).tolist()
    answer = 10 * digits[0] + digits[1]
    cosine = float(torch.nn.functional.cosine_similarity(states[:, number], states[:, number + 1], dim=-1).mean())
    across = " The tens change between them." if number % 10 == 9 else ""
    words = (
        f"The first network says that {answer} follows {number}, and is {100 * confidence:.0f} % sure. The hidden "
        f"states of {number} and {number + 1} have a cosine of {cosine:.2f}, mean of ten networks.{across}"
    )
    return tag(
        "section",
        tag("p", words, role="status"),
        tag(
            "div",
            _titled("All numbers in the plane that shows the tens best", _map(points, number)),
            _titled("Hidden units of the first network", _units(states[0].tolist(), number)),
            _titled(f"How far a donor's count serves a prompt for {max(number, 1)}", _curve(max(number, 1))),
            style="display:grid;gap:1.2rem;grid-template-columns:repeat(auto-fit,minmax(min(20rem,100%),1fr))",
        ),
        cls="c-panel",
    )


def _titled(title: str, picture: Markup) -> Markup:
    return tag("figure", tag("figcaption", title, cls="c-dim"), picture, style="margin:0;min-width:0")


def _svg(label: str, *parts: Markup) -> Markup:
    style = "width:100%;height:auto;color:inherit"
    return tag("svg", *parts, viewBox=f"0 0 {_SIZE} {_SIZE}", role="img", aria_label=label, style=style)


def _map(points: list[list[float]], number: int) -> Markup:
    low = [min(point[axis] for point in points) for axis in (0, 1)]
    span = [max(point[axis] for point in points) - low[axis] for axis in (0, 1)]
    places = [[16 + (_SIZE - 32) * (point[axis] - low[axis]) / span[axis] for axis in (0, 1)] for point in points]
    texts = []
    for i, (x, y) in enumerate(places):
        is_shown = i in (number, number + 1)
        style = "fill:var(--c-hit);font-size:17px;font-weight:700" if is_shown else "fill:currentColor;font-size:9px"
        opacity = 1 if is_shown else 0.9 if i // 10 == number // 10 else 0.45
        texts.append(
            tag("text", i, x=f"{x:.1f}", y=f"{_SIZE - y:.1f}", text_anchor="middle", style=f"{style};opacity:{opacity}")
        )
    (x, y), (to_x, to_y) = places[number], places[number + 1]
    step = tag(
        "line", x1=f"{x:.1f}", y1=f"{_SIZE - y:.1f}", x2=f"{to_x:.1f}", y2=f"{_SIZE - to_y:.1f}",
        style="stroke:var(--c-hit);stroke-width:1.5;opacity:.6",
    )  # fmt: skip
    return _svg(f"The numbers 0 to 99 in a plane, with the step from {number} to {number + 1}", step, join(texts))


def _units(states: list[list[float]], number: int) -> Markup:
    height = _SIZE - 70
    bars = []
    for unit in range(len(states[0])):
        for which, (shown, fill) in enumerate(((number, "var(--c-hit)"), (number + 1, "var(--c-miss)"))):
            high = height * states[shown][unit]
            x = 14 + unit * (_SIZE - 28) / len(states[0]) + which * 17
            bars.append(
                tag("rect", tag("title", f"unit {unit + 1} for {shown}: {states[shown][unit]:.2f}"), x=f"{x:.1f}",
                    y=f"{20 + height - high:.1f}", width=14, height=f"{high:.1f}", rx=2, style=f"fill:{fill}")
            )  # fmt: skip
    words = (
        tag("text", f"{number}", x=30, y=_SIZE - 20, style="fill:var(--c-hit);font-size:15px;font-weight:700"),
        tag("text", f"{number + 1}", x=90, y=_SIZE - 20, style="fill:var(--c-miss);font-size:15px;font-weight:700"),
    )
    return _svg(f"Eight hidden units for {number} and {number + 1}", join(bars), *words)


def _curve(wanted: int) -> Markup:
    alike = count_likeness()
    height, left = _SIZE - 70, 34
    points = " ".join(
        f"{left + (_SIZE - left - 10) * (found - 1) / 98:.1f},{20 + height * (1 - alike(wanted, found)):.1f}"
        for found in range(1, 100)
    )
    line = tag("polyline", points=points, style="fill:none;stroke:var(--c-hit);stroke-width:2.5")
    style = "fill:currentColor;font-size:12px"
    base = 20 + height
    axis = [
        tag("line", x1=left, y1=base, x2=_SIZE - 10, y2=base, style="stroke:currentColor;opacity:.4"),
        tag("text", "1", x=8, y=26, style=style),
        tag("text", "0", x=8, y=base + 4, style=style),
        *(
            tag("text", found, x=left + (_SIZE - left - 10) * (found - 1) / 98, y=base + 20, text_anchor="middle",
                style=style)
            for found in (1, 25, 50, 75, 99)
        ),
    ]  # fmt: skip
    told = ", ".join(f"{found} {alike(wanted, found):.2f}" for found in (1, 2, 3, 5, 10, 20, 50))
    return _svg(f"Likeness to {wanted} of the counts 1 to 99: {told}", *axis, line)


def _study() -> Markup:
    figures = []
    for name, words in _SHOWN:
        path = _PICTURES / f"numbers-{name}.png"
        if path.is_file():
            source = "data:image/png;base64," + base64.b64encode(path.read_bytes()).decode()
            picture = tag("img", src=source, alt=words, loading="lazy", style="max-width:100%;border-radius:6px")
            figures.append(tag("figure", picture, tag("figcaption", words, cls="c-dim"), style="margin:0 0 1.2rem"))
    how = f"{PROGRAM} numbers study makes these anew, with a table of all figures."
    return tag("section", tag("h2", "The study"), tag("p", tag("code", how)), join(figures), cls="c-panel")


ACTS: dict[str, Act] = {"view_numbers": _view}
