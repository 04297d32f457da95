"""Which language models can enhance prompts, where their weights are, and how each wants to be asked."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import BadRequest, DamagedCheckpoint, MissingWeights
from ..settings import BUNDLED_MODELS, Settings
from .lynx import DEFAULT_DIAL

DEMO = "demo"


@dataclass(frozen=True)
class Published:
    """A repository of the Hugging Face hub; size_gb is 10^9 bytes to be fetched."""

    repository: str
    size_gb: float
    extra: str = ""

    @property
    def command(self) -> str:
        """What fetches it into the Hugging Face cache, where it will be found."""
        return f"hf download {self.repository}{self.extra}"


PUBLISHED: Mapping[str, Published] = {
    "olmoe": Published("allenai/OLMoE-1B-7B-0924-Instruct", 13.8),
    "qwen3-moe": Published("Qwen/Qwen3-30B-A3B-Instruct-2507", 61.1),
    "mixtral": Published("mistralai/Mixtral-8x7B-Instruct-v0.1", 93.4, ' --exclude "*.pt"'),
}

INSTRUCTION = (
    "Turn the request below into the caption of a video: one to three plain sentences. Keep every thing, colour, "
    "number, place and movement that the request names, in the same words. Add what a camera would see: how things "
    "look, the light, the surroundings, how they move. Add no other main figure and no sound. Answer with the caption "
    "alone."
)
EXAMPLES = (
    (
        "two dogs running, beach",
        "Two dogs with wet, sandy coats are running along a wide beach at the edge of the water. Low waves break "
        "beside them, and the light of the late afternoon makes their shadows long.",
    ),
    (
        "an old steam train in the mountains",
        "An old steam train with a black locomotive drives slowly over a stone bridge in the mountains. White steam "
        "drifts across dark pines, and snow lies on the peaks behind.",
    ),
)


@dataclass(frozen=True)
class Manner:
    """How a model is asked and how it answers.

    template: the text of a request, with {prompt} in it; "" where the tokenizer's chat template, or else examples, do.
    temperature: 0 takes the likeliest word. lynx_dial, dtype: how far experts are shared, and in which number format
    it runs, unless told otherwise.
    """

    template: str = ""
    max_new_tokens: int = 120
    temperature: float = 0.7
    top_p: float = 0.9
    lynx_dial: float = DEFAULT_DIAL
    knows_all_words: bool = True
    dtype: str = "bf16"

    def text_for(self, prompt: str, tokenizer: Any) -> str:
        """What the model is given for `prompt`."""
        if self.template:
            return self.template.replace("{prompt}", prompt)
        if getattr(tokenizer, "chat_template", None):
            # In one message: Mixtral's template has no place for instructions. Qwen3's would think aloud first.
            message = {"role": "user", "content": f"{INSTRUCTION}\n\nRequest: {prompt}"}
            text = tokenizer.apply_chat_template(
                [message], tokenize=False, add_generation_prompt=True, enable_thinking=False
            )
            return str(text)
        examples = "\n\n".join(f"Request: {request}\nCaption: {caption}" for request, caption in EXAMPLES)
        return f"{INSTRUCTION}\n\n{examples}\n\nRequest: {prompt}\nCaption:"

    def answers_in_one_line(self, tokenizer: Any) -> bool:
        """Whether a new line means that the model has begun with something else."""
        return not self.template and not getattr(tokenizer, "chat_template", None)


def find(name: str, settings: Settings) -> tuple[Path, Manner]:
    """The folder of an enhancer and how it is asked.

    Args:
        name: demo, olmoe, qwen3-moe, mixtral, a repository such as owner/name, or the path of a folder.
    Raises: BadRequest for a name that nothing has, MissingWeights for weights that are not on this machine.
    """
    if name == DEMO:
        folder = BUNDLED_MODELS / "enhancer"
        if not (folder / "config.json").is_file():
            raise MissingWeights(f"The demo enhancer is not at {folder}: install CHAI again, all of it.")
        return folder, read_manner(folder)
    for folder in (Path(name).expanduser(), settings.models_folder / name):
        if (folder / "config.json").is_file():
            return folder, read_manner(folder)
        if folder.is_dir():
            raise DamagedCheckpoint(f"{folder} is not a language model: it has no config.json.")
    published = PUBLISHED.get(name)
    if published is None and not re.fullmatch(r"[\w.-]+/[\w.-]+", name):
        known = ", ".join((DEMO, *PUBLISHED))
        raise BadRequest(f"There is no enhancer {name!r}: choose one of {known}, or give a folder or owner/name.")
    repository = published.repository if published else name
    from huggingface_hub import try_to_load_from_cache

    config = try_to_load_from_cache(repository, "config.json")
    if not isinstance(config, str):
        size = f" ({published.size_gb:g} GB)" if published else ""
        command = published.command if published else f"hf download {repository}"
        raise MissingWeights(f"The weights of {repository}{size} are not on this machine; fetch them with: {command}")
    return Path(config).parent, Manner()


def read_manner(folder: Path) -> Manner:
    """What `chai.json` in a model's folder says of how it is asked; the usual way where there is none."""
    path = folder / "chai.json"
    if not path.is_file():
        return Manner()
    try:
        card = json.loads(path.read_text(encoding="utf-8"))
        known = {name: card[name] for name in Manner.__dataclass_fields__ if name in card}
        manner = Manner(**known)
        if manner.template and "{prompt}" not in manner.template:
            raise ValueError("the template has no place for {prompt}")
    except (ValueError, TypeError, KeyError, AttributeError, IndexError) as error:
        raise DamagedCheckpoint(f"{path} is damaged ({error}): fetch the model again.") from error
    return manner
