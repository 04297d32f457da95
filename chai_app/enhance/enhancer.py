"""Short prompts into full captions, a whole queue at once."""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..checks.only_data import check_only_data
from ..errors import BadRequest, Cancelled, DamagedCheckpoint
from ..settings import Settings
from .keeping import MentionsOf, lost
from .lynx import lynx, lynx_policy
from .models import DEMO, Manner, find
from .routing import Statistics

if TYPE_CHECKING:
    from torch import Tensor

OnText = Callable[[int, str], bool | None]
"""Called with the number of a prompt (from 0) and its text so far; returning False, or raising `Cancelled`, stops."""

BATCH_SIZE = 16
_NOT_ENHANCED = "The prompt was left as it is: "


@dataclass(frozen=True)
class Enhanced:
    """A prompt and what became of it. `text` is what to use; where it equals `original`, `note` says why."""

    original: str
    text: str
    note: str = ""

    @property
    def is_changed(self) -> bool:
        return self.text != self.original

    def to_json(self) -> dict[str, Any]:
        """Plain values, ready for `json.dumps`."""
        return {"original": self.original, "text": self.text, "note": self.note}


class Enhancer:
    """A language model that is ready to enhance prompts. One thread at a time may ask it."""

    def __init__(self, model: Any, tokenizer: Any, manner: Manner, name: str = "") -> None:
        tokenizer.padding_side = "left"
        if tokenizer.pad_token_id is None:
            tokenizer.pad_token = tokenizer.eos_token
        self.model, self.tokenizer, self.manner, self.name = model, tokenizer, manner, name
        self.statistics: Statistics | None = None

    @classmethod
    def load(
        cls, name: str = DEMO, device: str | None = None, dtype: str | None = None, settings: Settings | None = None
    ) -> Enhancer:
        """Read a model from this machine.

        Args:
            name: demo, olmoe, qwen3-moe, mixtral, owner/name, or a folder. dtype: fp32, bf16 or fp16; None is the
                model's own, bf16 unless its card says otherwise.
        Raises: BadRequest, MissingWeights, DamagedCheckpoint.
        """
        settings = Settings.from_environment() if settings is None else settings
        folder, manner = find(name, settings)
        check_only_data(folder)
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer

        if device is None:
            device = "cuda" if torch.cuda.is_available() else "cpu"
        formats = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
        number_format = formats.get(dtype or manner.dtype)
        if number_format is None:
            raise BadRequest(f"Unknown number format {dtype or manner.dtype!r}: choose one of {', '.join(formats)}.")
        try:
            tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
            # "eager" runs one expert after the other and reads none that nobody asked for.
            model = AutoModelForCausalLM.from_pretrained(
                folder, dtype=number_format, local_files_only=True, trust_remote_code=False, weights_only=True
            )
            if hasattr(model, "set_experts_implementation") and device == "cpu":
                model.set_experts_implementation("eager")
        except (OSError, ValueError, RuntimeError, KeyError, EOFError) as error:
            first = str(error).strip().split("\n")[0][:200]
            raise DamagedCheckpoint(f"The enhancer at {folder} cannot be read ({first}): fetch it again.") from error
        except Exception as error:
            if type(error).__name__ != "SafetensorError":
                raise
            raise DamagedCheckpoint(f"The weights at {folder} are damaged ({error}): fetch them again.") from error
        return cls(model.to(device).eval(), tokenizer, manner, name)

    def enhance(
        self,
        prompts: Sequence[str],
        mentions_of: MentionsOf,
        *,
        seed: int = 0,
        batch_size: int = BATCH_SIZE,
        lynx_dial: float | None = None,
        on_text: OnText | None = None,
    ) -> list[Enhanced]:
        """Write a caption for each prompt; keep the prompt where its caption, and a second one, lost something.

        Args:
            mentions_of: reads things and places out of a text.
            seed: with a prompt, it settles the caption; with Lynx, so do the other prompts of the batch.
            lynx_dial: 0 is exact, 1 shares most experts; None is the model's own.
        Raises: BadRequest for an empty prompt, a batch of none or a dial out of range; Cancelled if stopped.
        """
        for i, prompt in enumerate(prompts):
            if not prompt.strip():
                raise BadRequest(f"Prompt {i + 1} of {len(prompts)} is empty: say what the video should show.")
        if batch_size < 1:
            raise BadRequest(f"The batch size is {batch_size}: give 1 or more.")
        dial = self.manner.lynx_dial if lynx_dial is None else lynx_dial
        lynx_policy(dial)  # says what is wrong before any work begins
        found: dict[int, Enhanced] = {}
        for i, prompt in enumerate(prompts):
            reason = self._reason_against(prompt)
            if reason:
                found[i] = Enhanced(prompt, prompt, _NOT_ENHANCED + reason)
        left = [i for i in range(len(prompts)) if i not in found]
        with lynx(self.model, dial) if dial > 0 else nullcontext() as statistics:
            self.statistics = statistics
            for start in range(0, len(left), batch_size):
                rows = left[start : start + batch_size]
                texts = self.write([prompts[i] for i in rows], seed, on_text, rows)
                found |= {i: checked(prompts[i], text, mentions_of) for i, text in zip(rows, texts, strict=True)}
                again = [i for i in rows if not found[i].is_changed]
                if again and self.manner.temperature > 0:  # the likeliest words keep what a lucky draw lost
                    texts = self.write([prompts[i] for i in again], seed, on_text, again, temperature=0.0)
                    second = {i: checked(prompts[i], text, mentions_of) for i, text in zip(again, texts, strict=True)}
                    found |= {i: each for i, each in second.items() if each.is_changed}
        return [found[i] for i in range(len(prompts))]

    def _reason_against(self, prompt: str) -> str:
        """Why the model should not be asked, "" if it should."""
        if re.search(r"\|\d+\|", prompt):
            return "it gives each clip a text of its own."
        ids = self.tokenizer(self.manner.text_for(prompt, self.tokenizer)).input_ids
        room = getattr(self.model.config, "max_position_embeddings", None)
        if room is not None and len(ids) + self.manner.max_new_tokens > room:
            return f"it is too long for the enhancer, which reads {room - self.manner.max_new_tokens} words or parts."
        unknown = self._unknown_words(prompt)
        if unknown and not self.manner.knows_all_words:
            words = ", ".join(f'"{word}"' for word in unknown)
            return f"the {self.name or 'small'} enhancer does not know {words}."
        return ""

    def _unknown_words(self, prompt: str) -> list[str]:
        unk = self.tokenizer.unk_token_id
        words = dict.fromkeys(re.findall(r"[^\W_]+", prompt))
        return [word for word in words if unk is not None and unk in self.tokenizer(word).input_ids]

    def write(
        self,
        prompts: Sequence[str],
        seed: int = 0,
        on_text: OnText | None = None,
        numbers: Sequence[int] | None = None,
        temperature: float | None = None,
    ) -> list[str]:
        """The model's captions for one batch, as they come: not compared with the prompts.

        Args:
            numbers: what `on_text` is to call the prompts; None counts from 0.
            temperature: 0 takes the likeliest words; None is the model's own.
        """
        import torch
        from transformers import LogitsProcessorList, StoppingCriteriaList

        from .sampling import Sampler, Watcher

        numbers = range(len(prompts)) if numbers is None else numbers
        temperature = self.manner.temperature if temperature is None else temperature
        texts = [self.manner.text_for(prompt, self.tokenizer) for prompt in prompts]
        given = self.tokenizer(texts, return_tensors="pt", padding=True, return_token_type_ids=False)
        given = given.to(self.model.device)
        length = given.input_ids.shape[1]

        def decoded(ids: Tensor) -> list[str]:
            return [str(text) for text in self.tokenizer.batch_decode(ids[:, length:], skip_special_tokens=True)]

        def watch(ids: Tensor) -> list[bool]:
            texts_now = decoded(ids)
            for number, text in zip(numbers, texts_now, strict=True):
                if on_text is not None and on_text(number, cleaned(text)) is False:
                    raise Cancelled
            one_line = self.manner.answers_in_one_line(self.tokenizer)
            return [one_line and "\n" in text.lstrip() for text in texts_now]

        # Of a longer number, torch's generator on the CPU would use 32 bits alone.
        seeds = [zlib.crc32(f"{seed} {prompt}".encode()) for prompt in prompts]
        watcher = Watcher(watch) if on_text is not None or self.manner.answers_in_one_line(self.tokenizer) else None
        with torch.inference_mode():
            ids = self.model.generate(
                **given,
                max_new_tokens=self.manner.max_new_tokens,
                do_sample=False,
                temperature=None,
                top_p=None,
                top_k=None,
                pad_token_id=self.tokenizer.pad_token_id,
                logits_processor=LogitsProcessorList([Sampler(seeds, temperature, self.manner.top_p)]),
                stopping_criteria=StoppingCriteriaList([watcher] if watcher else []),
            )
        return [cleaned(text) for text in decoded(ids)]


def enhance(
    prompts: Sequence[str],
    mentions_of: MentionsOf,
    *,
    model: str = DEMO,
    device: str | None = None,
    dtype: str | None = None,
    settings: Settings | None = None,
    **how: Any,
) -> list[Enhanced]:
    """Load a model, write a caption for each prompt, and let the model go: `Enhancer.load` and `Enhancer.enhance`."""
    return Enhancer.load(model, device, dtype, settings).enhance(prompts, mentions_of, **how)


def checked(prompt: str, text: str, mentions_of: MentionsOf) -> Enhanced:
    """The caption, if it says all that the prompt asks for; otherwise the prompt, and what would have been lost."""
    if not text:
        return Enhanced(prompt, prompt, f"{_NOT_ENHANCED}the enhancer had nothing to say.")
    missing = lost(prompt, text, mentions_of)
    if missing:
        words = ", ".join(f'"{word}"' for word in missing)
        return Enhanced(prompt, prompt, f"{_NOT_ENHANCED}{words} would have been lost.")
    return Enhanced(prompt, text)


def cleaned(text: str) -> str:
    """The caption of an answer: its first paragraph, without thinking aloud, quotes, a label, or half a sentence."""
    text = re.sub(r"<think>.*?(</think>|$)", "", text, flags=re.DOTALL).strip()
    text = text.split("\n\n")[0].split("\n")[0].strip()
    text = re.sub(r"^(caption|answer)\s*:\s*", "", text, flags=re.IGNORECASE)
    if len(text) > 1 and text[0] in "\"'“" and text[-1] in "\"'”":
        text = text[1:-1].strip()
    text = re.sub(r"\s+([,.;:!?])", r"\1", text)
    whole = re.match(r"(.*[.!?][\"”']?)\s+\S[^.!?]*$", text, flags=re.DOTALL)
    return whole[1] if whole else text
