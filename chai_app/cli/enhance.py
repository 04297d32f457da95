"""`enhance`: short prompts into full captions, shown for reading and editing before anything is made of them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.text import Text

from ..enhance import Enhanced, Enhancer, OnText
from ..errors import BadRequest
from ..files import check_folder, whole_file
from ..prompts import extract
from ..request import OPTIONS
from ..settings import Settings
from . import options
from .prompt_files import read_lines
from .show import check_json_file, console_for, shortened, write_json

if TYPE_CHECKING:
    from ..engine import Engine

HELP = """Turn short prompts into full captions.

Give prompts, or a file of them as batch takes it. Whatever a prompt names stays in its caption; where something would
have been lost, the prompt is left as it is, and you are told. With -o the captions go to a file that batch takes:
read it, edit it, then make the videos.

[bold]Examples[/bold]

  python app.py enhance "red balloon" "two yellow fish"

  python app.py enhance prompts.txt -o captions.txt && python app.py batch captions.txt

  python app.py enhance "a tiger in the jungle" --model olmoe
"""

Dial = Annotated[
    float | None,
    typer.Option("--lynx", metavar="DIAL", help="How far prompts of a batch share experts: 0 is exact, 1 most."),
]


def enhance(
    prompts: Annotated[list[str], typer.Argument(metavar="PROMPT|FILE", help="Prompts, or one file of prompts.")],
    output: Annotated[
        str | None,
        typer.Option("--output", "-o", metavar="FILE", help="Write the captions here; .jsonl keeps all other fields."),
    ] = None,
    seed: options.CaptionSeed = None,
    model: Annotated[
        str,
        typer.Option("--model", "-m", help="demo, olmoe, qwen3-moe, mixtral, a folder, or owner/name from the hub."),
    ] = "demo",
    dial: Dial = None,
    batch_size: Annotated[int, typer.Option("--batch-size", min=1, max=1024, help="Prompts written at once.")] = 16,
    dtype: Annotated[str | None, options.option_of("dtype")] = None,
    device: Annotated[str | None, options.option_of("device")] = None,
    json_file: options.JsonFile = None,
) -> None:
    console = console_for(json_file)
    check_json_file(json_file)
    path = None if output is None else Path(output).expanduser()
    if path is not None:
        check_folder(path)
    requests = _requests(prompts)
    if path is None and any(len(fields) > 1 for fields in requests):
        console.print(Text("note ", "yellow").append("Only prompts are shown; -o FILE.jsonl keeps the other fields."))
    with _watching(console, len(requests), model) as on_text:
        enhancer = Enhancer.load(model, device, dtype, Settings.from_environment())
        enhanced = enhancer.enhance(
            [str(fields["prompt"]) for fields in requests],
            extract,
            seed=seed or 0,
            batch_size=batch_size,
            lynx_dial=dial,
            on_text=on_text,
        )
    for each in enhanced:
        show(console, each)
    if path is not None:
        _write(path, requests, enhanced)
        console.print(Text("  ").append(str(path), "green"), soft_wrap=True)
    write_json(json_file, {"prompts": [each.to_json() for each in enhanced]})


def enhanced_fields(
    engine: Engine, requests: Sequence[Mapping[str, Any]], console: Console, enhancer: str, seed: int
) -> list[dict[str, Any]]:
    """Fields of requests with their prompts enhanced, all in one go, and shown; each keeps the prompt that it had."""
    prompts = [fields.get("prompt") for fields in requests]
    texts = [prompt for prompt in prompts if isinstance(prompt, str)]  # of the others, the request itself will complain
    with _watching(console, len(texts), enhancer) as on_text:
        results = iter(engine.enhance(texts, enhancer, seed, on_text=on_text))
    changed = []
    for fields, prompt in zip(requests, prompts, strict=True):
        enhanced = next(results) if isinstance(prompt, str) else None
        if enhanced is None or not enhanced.is_changed:
            changed.append(dict(fields))
        else:
            original = fields.get("original_prompt") or enhanced.original
            changed.append({**fields, "prompt": enhanced.text, "original_prompt": original})
        if enhanced is not None:
            show(console, enhanced)
    return changed


@contextmanager
def _watching(console: Console, total: int, model: str) -> Iterator[OnText | None]:
    """A line that shows a caption as it grows, where somebody is there to see it."""
    with console.status(f"[cyan]loading the enhancer[/cyan] {escape(model)}") as status:

        def on_text(number: int, text: str) -> None:
            if text:
                status.update(Text(f"{number + 1}/{total} ", "dim").append(shortened(text, 70), "default"))

        yield on_text if console.is_terminal else None


def show(console: Console, enhanced: Enhanced) -> None:
    """What a prompt was and what became of it."""
    if enhanced.is_changed:
        console.print(Text(enhanced.original, "dim"), soft_wrap=True)
        console.print(Text("  ").append(enhanced.text, "default"), soft_wrap=True)
    else:
        console.print(Text(enhanced.original), soft_wrap=True)
        console.print(Text("  note ", "yellow").append(enhanced.note, "default"), soft_wrap=True)


def _requests(prompts: Sequence[str]) -> list[dict[str, Any]]:
    """Fields of the requests: of a file's lines if the one prompt names a file, otherwise of the prompts."""
    if len(prompts) == 1:
        path = Path(prompts[0]).expanduser()
        if path.suffix.lower() in (".txt", ".jsonl", ".ndjson") or (len(prompts[0]) < 200 and path.is_file()):
            requests = [fields for _, fields in read_lines(path)]
            if not requests:
                raise BadRequest(f"{path} holds no prompt: write one per line.")
            without = next((i for i, fields in enumerate(requests, 1) if not fields.get("prompt")), None)
            if without is not None:
                raise BadRequest(f"Request {without} of {path} has no prompt.")
            return requests
    return [{"prompt": prompt} for prompt in prompts]


def _write(path: Path, requests: Sequence[dict[str, Any]], enhanced: Sequence[Enhanced]) -> None:
    is_json = path.suffix.lower() in (".jsonl", ".ndjson")
    lines = []
    for fields, each in zip(requests, enhanced, strict=True):
        if is_json:
            original = {"original_prompt": each.original} if each.is_changed else {}
            named = {OPTIONS[field].name: value for field, value in fields.items() if field in OPTIONS}
            lines.append(json.dumps({"prompt": each.text, **named, **original}, ensure_ascii=False))
        else:
            lines.append(" ".join(each.text.split()))
    with whole_file(path) as temporary:
        temporary.write_text("\n".join(lines) + "\n", encoding="utf-8")
