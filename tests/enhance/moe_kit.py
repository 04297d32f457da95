"""Tiny mixture-of-experts models of the real classes, with random weights and routers that have opinions."""

import torch
import transformers as t

VOCABULARY, PAD = 50, 0
_COMMON = {
    "vocab_size": VOCABULARY,
    "hidden_size": 16,
    "intermediate_size": 8,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "num_experts_per_tok": 4,
    "pad_token_id": PAD,
    "bos_token_id": None,
    "eos_token_id": 1,
}
_LATENT = {"kv_lora_rank": 8, "q_lora_rank": 8, "qk_rope_head_dim": 4, "qk_nope_head_dim": 4, "v_head_dim": 8}
_DEEPSEEK = {**_LATENT, "n_routed_experts": 16, "moe_intermediate_size": 8, "first_k_dense_replace": 0}

SOFTMAX, SIGMOID = ("olmoe", "qwen3-moe", "qwen2-moe", "mixtral", "deepseek-v2"), ("deepseek-v3",)
FAMILIES = (*SOFTMAX, *SIGMOID)


def config(family):
    if family == "olmoe":
        return t.OlmoeConfig(**_COMMON, num_experts=16)
    if family == "mixtral":
        return t.MixtralConfig(**_COMMON, num_local_experts=16, head_dim=8)
    if family in ("qwen2-moe", "qwen3-moe"):
        of_family = t.Qwen3MoeConfig if family == "qwen3-moe" else t.Qwen2MoeConfig
        extra = {"head_dim": 8, "norm_topk_prob": True} if family == "qwen3-moe" else {}
        return of_family(**_COMMON, **extra, num_experts=16, moe_intermediate_size=8, shared_expert_intermediate_size=8)
    if family == "deepseek-v2":
        return t.DeepseekV2Config(**{**_COMMON, **_DEEPSEEK, "q_lora_rank": None}, topk_method="greedy")
    return t.DeepseekV3Config(**_COMMON, **_DEEPSEEK, n_group=4, topk_group=2, n_shared_experts=1)


def tiny_model(family, seed=0):
    """Two layers of 16 experts, 4 active."""
    of_family = t.AutoModelForCausalLM
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = of_family.from_config(config(family)).float().eval()
        for name, weight in model.named_parameters():
            if weight.ndim >= 2 and "norm" not in name:
                torch.nn.init.normal_(weight, std=0.3)
            if name.endswith("gate.weight"):
                torch.nn.init.normal_(weight, std=0.5)
    return model


def texts(batch, length=6, seed=1):
    """(B, L) token ids, none of them padding or the end."""
    return torch.randint(2, VOCABULARY, (batch, length), generator=torch.Generator().manual_seed(seed))


@torch.inference_mode()
def prefill_and_steps(model, prompt, steps, mask=None):
    """Logits of the prefill, and of one decode step for each column of `steps` (B, S)."""
    mask = torch.ones_like(prompt) if mask is None else mask
    output = model(input_ids=prompt, attention_mask=mask, use_cache=True)
    after = []
    for column in steps.T:
        mask = torch.cat([mask, mask.new_ones(len(mask), 1)], dim=1)
        step = model(
            input_ids=column[:, None], attention_mask=mask, past_key_values=output.past_key_values, use_cache=True
        )
        after.append(step.logits[:, -1])
    return output.logits, torch.stack(after, 1) if after else None
