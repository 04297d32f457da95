"""Train the prompt enhancer of the demo world: `python -m chai_app.demo.train_enhancer`.

A mixture-of-experts language model (OLMoE's class) with as many experts as the published one, and as many of them
active, at a sixteenth of its width. From a short prompt it goes on to the full caption. Interrupt it at any time; the
same command goes on where it stopped. The log goes to FOLDER/enhancer.log.jsonl, the weights to assets/enhancer.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers
from torch import Tensor
from transformers import OlmoeConfig, OlmoeForCausalLM, PreTrainedTokenizerFast

from ..settings import BUNDLED_MODELS
from .captions import all_words
from .learn.loop import Settings, train
from .short_prompts import Pair, held_out_pairs, sample_pair

FOLDER = BUNDLED_MODELS / "enhancer"
PAD, END, UNKNOWN, ANSWER = "<pad>", "</s>", "<unk>", "<caption>"
TEMPLATE = "{prompt} " + ANSWER
MAX_LENGTH = 64
SETTINGS = Settings(steps=1200, batch_size=32, peak_lr=2.5e-3, seed=51)
NO_LABEL = -100


def new_tokenizer() -> PreTrainedTokenizerFast:
    """One token a word, lower case; a word outside the demo's world becomes <unk>."""
    words = [PAD, END, UNKNOWN, ANSWER, ",", *all_words()]
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token=UNKNOWN))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=PAD,
        eos_token=END,
        unk_token=UNKNOWN,
        additional_special_tokens=[ANSWER],
        padding_side="left",
        model_max_length=MAX_LENGTH,
        clean_up_tokenization_spaces=False,
    )


def new_enhancer(tokenizer: PreTrainedTokenizerFast, seed: int = SETTINGS.seed) -> OlmoeForCausalLM:
    """OLMoE's 64 experts with 8 active, 128 wide, 3 layers."""
    torch.manual_seed(seed)
    config = OlmoeConfig(
        vocab_size=len(tokenizer),
        hidden_size=128,
        intermediate_size=32,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_experts=64,
        num_experts_per_tok=8,
        max_position_embeddings=MAX_LENGTH,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        router_aux_loss_coef=0.01,
        tie_word_embeddings=True,
    )
    return OlmoeForCausalLM(config)


def encoded(pairs: Sequence[Pair], tokenizer: PreTrainedTokenizerFast) -> dict[str, Tensor]:
    """Prompts with their captions as the model reads them: (N, L) each, labels on the caption alone."""
    prompts = tokenizer([TEMPLATE.format(prompt=pair.prompt) for pair in pairs]).input_ids
    captions = tokenizer([pair.caption + END for pair in pairs]).input_ids
    longest = max(len(p) + len(c) for p, c in zip(prompts, captions, strict=True))
    ids = torch.full((len(pairs), longest), tokenizer.pad_token_id)
    labels = torch.full_like(ids, NO_LABEL)
    mask = torch.zeros_like(ids)
    for i, (prompt, caption) in enumerate(zip(prompts, captions, strict=True)):
        length = len(prompt) + len(caption)
        ids[i, :length] = torch.tensor(prompt + caption)
        labels[i, len(prompt) : length] = torch.tensor(caption)
        mask[i, :length] = 1
    return {"input_ids": ids, "attention_mask": mask, "labels": labels}


def train_enhancer(folder: Path, settings: Settings = SETTINGS) -> tuple[PreTrainedTokenizerFast, OlmoeForCausalLM]:
    """Train, or go on training, in `folder`."""
    tokenizer = new_tokenizer()
    model = new_enhancer(tokenizer, settings.seed)
    model.set_experts_implementation("grouped_mm")  # a step takes 0.6 of the time of one expert after the other

    def loss_of(generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        random = Random(int(torch.randint(2**31, (), generator=generator)))
        batch = encoded([sample_pair(random) for _ in range(settings.batch_size)], tokenizer)
        output = model(**batch, output_router_logits=True, use_cache=False)
        right = output.logits[:, :-1].argmax(-1) == batch["labels"][:, 1:]
        said = batch["labels"][:, 1:] != NO_LABEL
        figures = {"tokens_right": right[said].float().mean().item(), "balance": output.aux_loss.item()}
        return output.loss, figures

    return tokenizer, train("enhancer", folder, model, settings, loss_of)


def held_out_perplexity(tokenizer: PreTrainedTokenizerFast, model: OlmoeForCausalLM, number: int = 500) -> float:
    """Perplexity per token of held-out captions, given their prompts."""
    with torch.inference_mode():
        batch = encoded(held_out_pairs(number), tokenizer)
        logits = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits[:, :-1]
        loss = torch.nn.functional.cross_entropy(
            logits.flatten(0, 1), batch["labels"][:, 1:].flatten(), ignore_index=NO_LABEL
        )
    return float(loss.exp())


def save_enhancer(tokenizer: PreTrainedTokenizerFast, model: OlmoeForCausalLM, folder: Path, **figures: Any) -> None:
    """Write the model folder, its weights in fp16, and the card that tells how to ask it."""
    model.half().save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    card = {
        "name": "demo",
        "about": "small, bundled: completes prompts of the demo model's world",
        "template": TEMPLATE,
        "max_new_tokens": 32,
        "temperature": 0.6,
        "top_p": 0.8,
        "dtype": "fp32",
        "lynx_dial": 0.0,
        "knows_all_words": False,
        "training": figures,
    }
    (folder / "chai.json").write_text(json.dumps(card, indent=1) + "\n", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path("demo-training"), help="for the state of the training")
    parser.add_argument("--output", type=Path, default=FOLDER, help="for the finished model")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--steps", type=int, default=SETTINGS.steps)
    parser.add_argument("--batch-size", type=int, default=SETTINGS.batch_size)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    settings = replace(SETTINGS, steps=arguments.steps, batch_size=arguments.batch_size)
    tokenizer, model = train_enhancer(arguments.folder, settings)
    perplexity = round(held_out_perplexity(tokenizer, model), 4)
    save_enhancer(
        tokenizer, model, arguments.output, steps=settings.steps, batch_size=settings.batch_size, perplexity=perplexity
    )
    print(f"{arguments.output}: held-out perplexity {perplexity}", flush=True)


if __name__ == "__main__":
    main()
