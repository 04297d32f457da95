"""`python app.py bench NAME`: the benchmarks by name. Each has its own options."""

from __future__ import annotations

from importlib import import_module
from typing import Annotated

import typer

from ..errors import BadRequest

BENCHES = {
    "reuse": "what reuse is worth when everything hits",
    "stream": "what it is worth in a stream of prompts",
    "ablation": "what makes a donor useful",
    "attention": "what the queries attend to",
    "step": "one step against the original code",
    "card": "the model in its full size on a GPU",
    "gpu": "right, fast and training, for a GPU that is at hand for minutes",
    "full-size": "memory and time of a start in the published sizes on a CPU",
    "pareto": "time and quality of reuse within and across runs",
    "magcache": "what MagCache has to know of a model",
    "profile": "where the time of a run goes",
    "growth": "time and memory as videos grow",
    "cache": "lookup, storage and thresholds",
    "counts": "what the gate on counts is worth",
    "enhance": "what sharing experts saves the enhancer, and costs",
    "ui": "many people at one browser UI",
    "start": "how long a command takes, start-up included",
}
SCRIPTS = ("gpu", "full-size", "start")  # each goes its own way
HELP = "Measure: " + "; ".join(f"{name} ({what})" for name, what in BENCHES.items()) + "."
OPTIONS = {"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}


def bench(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help=f"One of {', '.join(BENCHES)}; NAME --help tells its options.")] = "",
) -> None:
    if name in ("", "-h", "--help"):
        for each, what in BENCHES.items():
            typer.echo(f"bench {each:10} {what}")
        typer.echo("bench NAME --help tells the options of one.")
        return
    if name not in BENCHES:
        raise BadRequest(f"There is no benchmark {name!r}: choose one of {', '.join(BENCHES)}.")
    if name in SCRIPTS:
        import_module(f"..bench.{name.replace('-', '_')}", __package__).main(context.args)
        return
    from ..bench.runner import run

    run(name, context.args)
