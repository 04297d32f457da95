"""What sharing experts saves the prompt enhancer, and what it costs: Lynx and its rivals, arm by arm.

Run it as `python app.py bench enhance`. Two parts:
quality: the bundled enhancer writes captions for held-out prompts, and reads reference captions, greedily, on the CPU.
speed: decode steps of layers with OLMoE-1B-7B's dimensions and random weights, whose routers say what the bundled
enhancer's trained routers said. Needs 4 GB of memory with 2 layers, and quiet cores.
"""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from statistics import median
from typing import Any

from ..demo.short_prompts import HELD_OUT_SEED, held_out_pairs
from ..enhance import DEMO, Enhancer
from .enhance_arms import arms
from .enhance_quality import Quality, measure, recorded_logits
from .enhance_speed import Size, Speed, measure_steps, new_model, selection_ms
from .journal import Journal, Sample
from .plots import COLOURS, GREY, MARKERS, figure
from .runner import Arm, Bench, Columns, Row, points

PARTS = ("quality", "speed")
DIALS, OTHER_DIALS = (0.35, 0.5, 0.65, 0.8, 1.0), (0.5, 0.65, 1.0)  # at the main batch size, and at others
MAIN_BATCH = 16
BATCHES = (1, 4, 8, 16, 32)
TINY = Size(layers=2, hidden=64, expert=16, heads=2)


def all_arms() -> list[Arm]:
    """Every arm; the further ones of each rival reach down to as few experts as Lynx."""
    return arms(DIALS, fewer=(1, 2, 4, 6), first=(6, 4, 3, 2), random_dials=(0.5, 1.0), binned_dials=(0.35, 0.5, 0.75))


def chosen_arms(batch_size: int, names: Sequence[str]) -> list[Arm]:
    """Every arm at the main batch size, Lynx alone at the others; of these, plain and those that were named, if any."""
    offered = all_arms() if batch_size == MAIN_BATCH else arms(OTHER_DIALS)
    order = {name: i for i, name in enumerate(["plain", *names])}
    return sorted((arm for arm in offered if not names or arm.name in order), key=lambda arm: order.get(arm.name, 0))


def options(parser: ArgumentParser) -> None:
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--model", default=DEMO, help="the bundled enhancer, or a folder with one like it")
    parser.add_argument("--prompts", type=int, default=500)
    parser.add_argument("--batches", type=int, nargs="+", default=list(BATCHES))
    parser.add_argument("--arms", nargs="+", default=[], help='some of them alone, beside plain: "Lynx 0.5" "OEA 4"')
    parser.add_argument("--steps", type=int, default=20, help="timed decode steps of each arm")
    parser.add_argument("--layers", type=int, default=2, help="1.6 GB each")
    parser.add_argument("--threads", type=int, default=0, help="0 leaves it to torch")
    parser.add_argument("--tiny", action="store_true", help="small layers for speed: shows that it runs, no more")


def settings(options: Namespace) -> dict[str, Any]:
    import torch

    if options.threads:
        torch.set_num_threads(options.threads)
    size = TINY if options.tiny else Size(layers=options.layers)
    return {"model": options.model, "prompts": options.prompts, "size": asdict(size)}


def run(options: Namespace, journal: Journal) -> None:
    """Quality that is there is kept; of speed, a whole batch size is measured again, for its arms take turns."""
    enhancer, pairs = Enhancer.load(options.model, "cpu"), held_out_pairs(options.prompts)
    wanted = [(size, arm) for size in options.batches for arm in chosen_arms(size, options.arms)]
    if "quality" in options.parts:
        # Faster than one expert after the other, and equal but for rounding; a greedy caption has no luck in it.
        enhancer.model.set_experts_implementation("grouped_mm")
        manner, enhancer.manner = enhancer.manner, replace(enhancer.manner, temperature=0.0)
        missing = [each for each in wanted if each[0] > 1 or each[1].how is None]
        missing = [
            (size, arm) for size, arm in missing if not journal.has(part="quality", batch_size=size, arm=arm.name)
        ]
        for done, (batch_size, arm) in enumerate(missing, 1):
            quality = asdict(measure(enhancer, pairs, arm, batch_size))
            journal.add({"part": "quality", "group": arm.group, **quality})
            journal.tell(done, len(missing), "arms")
        enhancer.manner = manner
    if "speed" in options.parts:
        size = Size(**journal.settings["size"])
        model = new_model(size)
        for batch_size in options.batches:
            mine = [arm for batch, arm in wanted if batch == batch_size]
            recorded = recorded_logits(enhancer, held_out_pairs(max(64, 4 * batch_size)), batch_size)
            speeds = measure_steps(model, mine, recorded, options.steps, HELD_OUT_SEED)
            journal.clear(part="speed", batch_size=batch_size)
            for arm, speed in zip(mine, speeds, strict=True):
                is_choosing = arm.how is not None and batch_size > 1
                alone = selection_ms(arm, recorded, size.layers, size.active) if is_choosing else [0.0]
                journal.add({"part": "speed", "group": arm.group, **asdict(speed), "alone_ms": alone})


def rows(samples: Sequence[Sample], _settings: Mapping[str, Any]) -> list[Row]:
    """A row for each batch size and arm, beside the plain arm of that size."""
    table: list[Row] = []
    plain = {(sample["part"], sample["batch_size"]): sample for sample in samples if sample["arm"] == "plain"}
    for part in PARTS:
        for sample in (sample for sample in samples if sample["part"] == part):
            one, other = ({**each} for each in (sample, plain[part, sample["batch_size"]]))
            named = {"part": one.pop("part"), "group": one.pop("group")}
            del other["part"], other["group"]
            if part == "quality":
                table.append({**named, **Quality(**one).row(Quality(**other))})
            else:
                alone = one.pop("alone_ms")
                del other["alone_ms"]
                table.append({**named, **speed_row(Speed(**one), Speed(**other), alone)})
    return table


def speed_row(speed: Speed, plain: Speed, alone_ms: Sequence[float]) -> Row:
    """One arm beside the plain one; `faster` and `cpu_faster` compare step by step, in pairs close to each other in
    time. On busy cores the processor's time tells more than the clock's."""
    ratios = [p / s for p, s in zip(plain.step_ms, speed.step_ms, strict=True)]
    cpu_ratios = [p / s for p, s in zip(plain.cpu_ms, speed.cpu_ms, strict=True)]
    return {
        "arm": speed.arm,
        "batch": speed.batch_size,
        "n": len(speed.step_ms),
        "experts": sum(speed.experts) / len(speed.experts),
        "median_ms": median(speed.step_ms),
        "p95_ms": sorted(speed.step_ms)[min(len(speed.step_ms) - 1, int(len(speed.step_ms) * 0.95))],
        "faster": median(ratios),
        "cpu_ms": median(speed.cpu_ms),
        "cpu_faster": median(cpu_ratios),
        "tokens_per_s": 1e3 * speed.batch_size / median(speed.step_ms),
        "selection_ms": median(alone_ms),
        "selection_share": median(alone_ms) / median(plain.cpu_ms),
    }


def draw(rows: list[Row], _samples: Sequence[Sample], path: Path) -> None:
    """A panel for each question that the figures answer, over experts touched, at the batch size with most arms."""
    questions = [
        ("Tokens agreed with plain, %", "quality", "tokens_agreed", 100),
        ("Prompts of which all is kept, %", "quality", "kept", 100),
        ("Times less processor time a step", "speed", "cpu_faster", 1),
    ]
    panels = [(*each, [row for row in rows if row["part"] == each[1]]) for each in questions]
    panels = [panel for panel in panels if panel[4]]
    with figure(path, 1, len(panels), figsize=(4.7 * len(panels), 3.6), squeeze=False) as (_, axes):
        for axis, (title, _, field, times, mine) in zip(axes[0], panels, strict=True):
            sizes = [row["batch"] for row in mine]
            batch = max(sorted(set(sizes), reverse=True), key=sizes.count)
            groups = list(dict.fromkeys(row["group"] for row in mine))
            for group, colour, marker in zip(groups, (GREY, *COLOURS), ("X", *MARKERS), strict=False):
                if field == "tokens_agreed" and group == "random set":
                    continue  # far below the others, it would hide what tells them apart
                some = sorted(
                    (r["experts"], times * r[field]) for r in mine if (r["group"], r["batch"]) == (group, batch)
                )
                axis.plot(*zip(*some, strict=True), color=colour, marker=marker, markersize=4.5, label=group)
            axis.set(title=title, xlabel="distinct experts per layer and step")
            axis.set_xlim(left=0)
        axes[0][-1].legend()


TABLES: dict[str, Columns] = {
    "quality": {
        "arm": "{arm}",
        "batch": "{batch}",
        "n": "{n}",
        "experts touched": lambda row: f"{row['experts']:.1f}" if row["batch"] > 1 else "8.0",
        "fewer": lambda row: f"{1 - row['experts'] / row['experts_before']:.0%}" if row["experts_before"] else "0%",
        "all kept, %": points("kept"),
        "against plain": points("kept_difference", "+.1f"),
        "complete, %": points("complete"),
        "perplexity": "{perplexity:.3f}",
        "tokens agreed, %": points("tokens_agreed"),
        "texts same, %": points("texts_same"),
    },
    "speed": {
        "arm": "{arm}",
        "batch": "{batch}",
        "n": "{n}",
        "experts per layer": "{experts:.1f}",
        "step, ms": "{median_ms:.1f}",
        "p95": "{p95_ms:.1f}",
        "times faster": "{faster:.2f}",
        "cpu ms": "{cpu_ms:.1f}",
        "times less": "{cpu_faster:.2f}",
        "tokens/s": "{tokens_per_s:.1f}",
        "choosing alone, cpu ms": "{selection_ms:.2f}",
        "share of a plain step": "{selection_share:.2%}",
    },
}
BENCH = Bench(
    __doc__, TABLES, run, rows, options, settings,
    key=lambda sample: (sample["part"], sample["batch_size"], sample["arm"]), draw=draw, seed=HELD_OUT_SEED,
    libraries=("torch", "transformers"),
)  # fmt: skip
