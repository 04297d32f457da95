"""Training the text encoder: a small T5 that learns to say any caption in one fixed wording.

To do so, its encoder has to carry which colour belongs to which object, how many there are, the motion and the scene,
whatever words and order the caption used. The decoder is thrown away afterwards.
"""

from __future__ import annotations

from pathlib import Path
from random import Random

import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from torch import Tensor
from transformers import PreTrainedTokenizerFast, T5Config, T5EncoderModel, T5ForConditionalGeneration

from .captions import COLOUR_WORDS, MOTION_WORDS, SCENE_PHRASES, all_words, caption
from .learn.loop import Settings, train
from .world import ClipSpec, sample_any_spec

MAX_LENGTH = 48
SETTINGS = Settings(steps=800, batch_size=64, peak_lr=2e-3, seed=31)


def new_tokenizer() -> PreTrainedTokenizerFast:
    """One token a word, lower case; a word outside the demo's world becomes <unk>."""
    words = ["<pad>", "</s>", "<unk>", ",", ".", ":", *all_words()]
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        eos_token="</s>",
        unk_token="<unk>",
        model_max_length=MAX_LENGTH,
    )


def with_unknown_words(text: str, random: Random) -> str:
    """Now and then put in a word that the tokenizer does not know, as a person would ("a *majestic* red ball")."""
    words = text.split()
    while random.random() < 0.2:
        words.insert(random.randrange(len(words) + 1), "<unk>")
    return " ".join(words)


def fixed_wording(spec: ClipSpec, text: str) -> str:
    """The answer the decoder learns: "two red ball , moving left , desert", with "any" for what `text` leaves open."""
    padded = f" {text} "

    def said(options: tuple[str, ...]) -> bool:
        return any(f" {option} " in padded.replace(",", " ") for option in options)

    things = " and ".join(
        f"{thing.colour if said(COLOUR_WORDS[thing.colour]) else 'any'} {thing.object}" for thing in spec.things
    )
    count = {1: "one", 2: "two", 3: "three"}[spec.count]
    motion = spec.motion if said(MOTION_WORDS[spec.motion]) else "any"
    scene = spec.scene if said(SCENE_PHRASES[spec.scene]) else "any"
    return f"{count} {things} , {motion} , {scene}"


def train_text_encoder(folder: Path, settings: Settings = SETTINGS) -> tuple[PreTrainedTokenizerFast, T5EncoderModel]:
    torch.manual_seed(settings.seed)
    tokenizer = new_tokenizer()
    model = T5ForConditionalGeneration(
        T5Config(
            vocab_size=len(tokenizer),
            d_model=128,
            d_kv=32,
            d_ff=320,
            num_heads=4,
            num_layers=3,
            num_decoder_layers=1,
            feed_forward_proj="gated-gelu",
            decoder_start_token_id=0,
            dropout_rate=0.0,
        )
    )

    def loss_of(generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        random = Random(int(torch.randint(2**31, (), generator=generator)))
        specs = [sample_any_spec(random, share_counted=0.25, share_pairs=0.25) for _ in range(settings.batch_size)]
        texts = [caption(spec, random) for spec in specs]
        answers = [fixed_wording(spec, text) for spec, text in zip(specs, texts, strict=True)]
        given = tokenizer([with_unknown_words(text, random) for text in texts], padding=True, return_tensors="pt")
        goal = tokenizer(answers, padding=True, return_tensors="pt").input_ids
        goal[goal == tokenizer.pad_token_id] = -100
        output = model(input_ids=given.input_ids, attention_mask=given.attention_mask, labels=goal)
        kept = goal != -100
        right = (output.logits.argmax(-1) == goal)[kept].float().mean().item()
        return output.loss, {"tokens_right": right}

    train("text_encoder", folder, model, settings, loss_of)
    encoder = T5EncoderModel(model.config)
    encoder.load_state_dict(
        {k: v for k, v in model.state_dict().items() if k.startswith(("encoder.", "shared."))}, strict=False
    )
    return tokenizer, encoder.eval()
