"""What sharing experts saves the prompt enhancer, and what it costs: Lynx and its rivals, arm by arm.

Run it as `python app.py bench enhance`. Two parts:
quality: the bundled enhancer writes captions for held-out prompts, and reads reference captions, greedily, on the CPU.
speed: decode steps of layers with OLMoE-1B-7B's dimensions and random weights, whose routers say what the bundled
enhancer's trained routers said. Needs 4 GB of memory with 2 layers, and quiet cores.
`--draw FILE` draws table and plot again from the figures of an earlier run.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from statistics import median
from typing import Any

from ..demo.short_prompts import HELD_OUT_SEED, held_out_pairs
from ..enhance import DEMO, Enhancer
from ..files import whole_file
from .enhance_arms import Arm, arms
from .enhance_quality import Quality, measure, recorded_logits
from .enhance_speed import Size, Speed, measure_steps, new_model, selection_ms
from .header import header, printed

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


def quality_rows(
    enhancer: Enhancer,
    prompts: int,
    batch_sizes: Sequence[int],
    names: Sequence[str],
    there: Sequence[dict[str, Any]] = (),
) -> Iterator[dict[str, Any]]:
    """A line for each batch size and arm; those that are `there` are not measured again."""
    pairs = held_out_pairs(prompts)
    # Faster than one expert after the other, and equal but for rounding; a greedy caption has no luck in it.
    enhancer.model.set_experts_implementation("grouped_mm")
    enhancer.manner = replace(enhancer.manner, temperature=0.0)
    for batch_size in batch_sizes:
        plain: Quality | None = None
        for arm in chosen_arms(batch_size, names)[: 1 if batch_size == 1 else None]:
            raw = [row["raw"] for row in there if (row["arm"], row["batch"]) == (arm.name, batch_size)]
            quality = Quality(**raw[0]) if raw else measure(enhancer, pairs, arm, batch_size)
            plain = plain or quality
            yield {**quality.row(plain), "raw": asdict(quality)}


QUALITY_HEAD = (
    "| arm | batch | n | experts touched | fewer | all kept, % | against plain | complete, % | perplexity "
    "| tokens agreed, % | texts same, % |\n|---|---|---|---|---|---|---|---|---|---|---|"
)


def quality_line(row: dict[str, Any]) -> str:
    experts = f"{row['experts']:.1f}" if row["batch"] > 1 else "8.0"
    fewer = f"{1 - row['experts'] / row['experts_before']:.0%}" if row["experts_before"] else "0%"
    return (
        f"| {row['arm']} | {row['batch']} | {row['n']} | {experts} | {fewer} | {100 * row['kept']:.1f} | "
        f"{100 * row['kept_difference']:+.1f} | {100 * row['complete']:.1f} | {row['perplexity']:.3f} | "
        f"{100 * row['tokens_agreed']:.1f} | {100 * row['texts_same']:.1f} |"
    )


def speed_rows(
    enhancer: Enhancer, size: Size, batch_sizes: Sequence[int], names: Sequence[str], steps: int, seed: int
) -> Iterator[dict[str, Any]]:
    """A line for each batch size and arm, and what the choosing alone takes."""
    model = new_model(size)
    for batch_size in batch_sizes:
        recorded = recorded_logits(enhancer, held_out_pairs(max(64, 4 * batch_size)), batch_size)
        chosen = chosen_arms(batch_size, names)
        speeds = measure_steps(model, chosen, recorded, steps, seed)
        for arm, speed in zip(chosen, speeds, strict=True):
            alone = selection_ms(arm, recorded, size.layers, size.active) if arm.policy and batch_size > 1 else [0.0]
            yield speed_row(speed, speeds[0], alone)


def speed_row(speed: Speed, plain: Speed, alone_ms: Sequence[float]) -> dict[str, Any]:
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
        "p95_ms": percentile(speed.step_ms, 95),
        "faster": median(ratios),
        "cpu_ms": median(speed.cpu_ms),
        "cpu_faster": median(cpu_ratios),
        "tokens_per_s": 1e3 * speed.batch_size / median(speed.step_ms),
        "selection_ms": median(alone_ms),
        "selection_share": median(alone_ms) / median(plain.cpu_ms),
        "raw": asdict(speed),
    }


SPEED_HEAD = (
    "| arm | batch | n | experts per layer | step, ms | p95 | times faster | cpu ms | times less "
    "| tokens/s | choosing alone, cpu ms | share of a plain step |\n|---|---|---|---|---|---|---|---|---|---|---|---|"
)


def speed_line(row: dict[str, Any]) -> str:
    return (
        f"| {row['arm']} | {row['batch']} | {row['n']} | {row['experts']:.1f} | {row['median_ms']:.1f} | "
        f"{row['p95_ms']:.1f} | {row['faster']:.2f} | {row['cpu_ms']:.1f} | "
        f"{row['cpu_faster']:.2f} | {row['tokens_per_s']:.1f} | {row['selection_ms']:.2f} | "
        f"{100 * row['selection_share']:.2f} % |"
    )


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that `share` percent of all do not exceed."""
    return sorted(values)[min(len(values) - 1, int(len(values) * share / 100))]


def main(arguments: Sequence[str] | None = None) -> None:
    arguments = sys.argv[1:] if arguments is None else arguments
    parser = argparse.ArgumentParser(
        prog="bench enhance", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--model", default=DEMO, help="the bundled enhancer, or a folder with one like it")
    parser.add_argument("--prompts", type=int, default=500)
    parser.add_argument("--batches", type=int, nargs="+", default=list(BATCHES))
    parser.add_argument("--arms", nargs="+", default=[], help='some of them alone, beside plain: "Lynx 0.5" "OEA 4"')
    parser.add_argument("--steps", type=int, default=20, help="timed decode steps of each arm")
    parser.add_argument("--layers", type=int, default=2, help="1.6 GB each")
    parser.add_argument("--threads", type=int, default=0, help="0 leaves it to torch")
    parser.add_argument("--tiny", action="store_true", help="small layers for speed: shows that it runs, no more")
    parser.add_argument("--json", type=Path, help="write the figures here; quality that is there is kept")
    parser.add_argument("--picture", type=Path, help="draw quality over experts touched here, as PNG")
    parser.add_argument(
        "--draw", type=Path, nargs="+", metavar="FILE", help="draw from figures that were written, measure nothing"
    )
    options = parser.parse_args(arguments)
    if options.draw:
        show_again([json.loads(path.read_text(encoding="utf-8")) for path in options.draw], options.picture)
        return
    import torch

    if options.threads:
        torch.set_num_threads(options.threads)
    figures = header("enhance", arguments, HELD_OUT_SEED, ("torch", "transformers"))
    figures["threads"] = torch.get_num_threads()
    print(printed(figures))
    before = _earlier(options.json)
    for part, its_own in (("quality", ("quality",)), ("speed", ("speed", "size"))):
        if part not in options.parts:  # what is not measured now stays as it was
            figures |= {name: before[name] for name in its_own if name in before}

    def keep(part: str, row: dict[str, Any], line: str) -> None:
        """Print a line, and write all there is so far: a long run that is stopped is not lost."""
        others = [old for old in figures.get(part, []) if (old["arm"], old["batch"]) != (row["arm"], row["batch"])]
        figures[part] = [*others, row]
        print(line, flush=True)
        if options.json:
            with whole_file(options.json) as temporary:
                temporary.write_text(json.dumps(figures) + "\n", encoding="utf-8")

    if "quality" in options.parts:
        print(f"\n{QUALITY_HEAD}")
        enhancer = Enhancer.load(options.model, "cpu")
        figures["quality"] = there = [row for row in before.get("quality", []) if row["n"] == options.prompts]
        for row in quality_rows(enhancer, options.prompts, options.batches, options.arms, there):
            keep("quality", row, quality_line(row))
    if "speed" in options.parts:
        size = TINY if options.tiny else Size(layers=options.layers)
        figures["size"] = asdict(size)
        print(f"\n{size.layers} layers, hidden {size.hidden}, {size.experts} experts of {size.expert}, fp32")
        print(SPEED_HEAD)
        enhancer = Enhancer.load(options.model, "cpu")
        for row in speed_rows(enhancer, size, options.batches, options.arms, options.steps, HELD_OUT_SEED):
            keep("speed", row, speed_line(row))
    if options.picture and "quality" in figures:
        from .enhance_plot import draw

        draw(figures, options.picture)


def _earlier(path: Path | None) -> dict[str, Any]:
    """What an earlier run has written."""
    if path is None or not path.is_file():
        return {}
    return dict(json.loads(path.read_text(encoding="utf-8")))


def show_again(runs: Sequence[dict[str, Any]], picture: Path | None) -> None:
    """Tables, and the plot if a place for it is given, from the raw figures of one or several runs."""
    figures = {part: [row for run in runs for row in run.get(part, [])] for part in PARTS}
    for head, line, name in ((QUALITY_HEAD, quality_line, "quality"), (SPEED_HEAD, speed_line, "speed")):
        if figures[name]:
            print("\n".join(["", head, *(line(row) for row in figures[name])]))
    if picture is not None:
        from .enhance_plot import draw

        draw(figures, picture)


if __name__ == "__main__":
    main()
