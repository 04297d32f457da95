"""The transformer, against the original's recorded outputs and against itself."""

import json
import warnings
from pathlib import Path

import pytest
import torch
from accelerate import cpu_offload, init_empty_weights
from diffusers.models.attention_dispatch import attention_backend
from safetensors.torch import load_file

from chai_app.errors import DamagedCheckpoint
from chai_app.opensora import OpenSoraTransformer3DModel
from chai_app.opensora.attention import OpenSoraAttnProcessor, attend, attention_kernel

GOLDEN = Path(__file__).parents[1] / "data" / "golden"
CASES = json.loads((GOLDEN / "stdit3_cases.json").read_text())
TOLERANCE = 1e-4  # fp32, two orders of the same sums; the largest measured is 0.000012


@pytest.fixture(scope="module")
def recorded():
    return load_file(GOLDEN / "stdit3_cases.safetensors")


def arguments(recorded, name: str) -> dict:
    """What the case `name` calls the transformer with."""
    case, latents = CASES[name], recorded[f"{name}.x"]
    return {
        "hidden_states": latents,
        "timestep": torch.full(latents.shape[:1], case["timestep"]),
        "encoder_hidden_states": recorded[f"{name}.y"].squeeze(1),
        "encoder_attention_mask": recorded[f"{name}.mask"],
        "fps": case["fps"],
        "height": case["height"],
        "width": case["width"],
        "frame_mask": recorded.get(f"{name}.x_mask"),
    }


@pytest.fixture
def even(recorded):
    """Arguments of a plain case: two videos of 5 latent frames, with prompts of 7 and 12 tokens."""
    return arguments(recorded, "even")


@pytest.mark.parametrize("name", CASES)
def test_velocity_is_that_of_the_original(transformer, recorded, name):
    with torch.no_grad():
        velocity = transformer(**arguments(recorded, name)).sample
    assert velocity.shape == recorded[f"{name}.x"].shape
    torch.testing.assert_close(velocity, recorded[f"{name}.out"][:, :4], atol=TOLERANCE, rtol=0)


def test_all_released_names_load():
    with init_empty_weights(include_buffers=True):
        transformer = OpenSoraTransformer3DModel()
    shapes = json.loads((GOLDEN / "stdit3_xl2_state_dict.json").read_text())
    transformer.load_released_state_dict({name: torch.empty(shape, device="meta") for name, shape in shapes.items()})


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda tensors: tensors.pop("temporal_blocks.1.attn.qkv.weight"), "missing"),
        (lambda tensors: tensors.update(extra=torch.zeros(1)), "unknown"),
        (lambda tensors: tensors.update({"t_block.1.bias": torch.zeros(3)}), "of another shape"),
    ],
)
def test_tensors_that_do_not_fit_are_refused_in_one_sentence(transformer, change, complaint):
    tensors = load_file(GOLDEN / "stdit3_weights.safetensors")
    change(tensors)
    with pytest.raises(DamagedCheckpoint, match=rf"^[^\n]*1 {complaint}[^\n]*fetch it again\.$"):
        transformer.load_released_state_dict(tensors)


# -- what sees what ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("index", "axis"), [(0, 1), (1, 2)], ids=["spatial: frames", "temporal: places"])
def test_a_block_keeps_frames_or_places_apart(transformer, even, index, axis):
    block = transformer.transformer_blocks[index]
    context = transformer.encode_text(even["encoder_hidden_states"], even["encoder_attention_mask"])
    modulation, *_ = transformer.modulation(torch.full((2,), 500.0), torch.full((2,), 24.0))
    tokens = torch.randn(2, 5, 12, 64, generator=torch.Generator().manual_seed(0))
    changed = tokens.clone()
    changed.select(axis, 3).add_(1)
    rotary = transformer.rope(5, torch.float32) if block.is_temporal else None
    with torch.no_grad():
        before, after = (
            block(x, modulation, context.keys_values[index], context.mask, rotary) for x in (tokens, changed)
        )
    differs = (before != after).any(dim=-1).any(dim=0)  # (T, S)
    expected = torch.zeros(5, 12, dtype=torch.bool)
    expected.select(axis - 1, 3).fill_(True)
    assert torch.equal(differs, expected)


def test_padded_tokens_of_a_prompt_do_not_matter(transformer, even):
    with torch.no_grad():
        before = transformer(**even).sample
        hidden = even["encoder_attention_mask"] == 0
        even["encoder_hidden_states"] = even["encoder_hidden_states"].masked_fill(hidden[..., None], 1e3)
        torch.testing.assert_close(transformer(**even).sample, before, atol=0, rtol=0)


def test_a_mask_with_gaps_is_respected(transformer, recorded):
    call = arguments(recorded, "single_image")
    call["encoder_attention_mask"] = torch.tensor([[1, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0]])
    kept = {**call, "encoder_hidden_states": call["encoder_hidden_states"][:, [0, 2]], "encoder_attention_mask": None}
    with torch.no_grad():
        torch.testing.assert_close(transformer(**call).sample, transformer(**kept).sample, atol=1e-5, rtol=0)


def test_a_prompt_without_any_token_is_refused(transformer, even):
    even["encoder_attention_mask"] = torch.zeros_like(even["encoder_attention_mask"])
    with pytest.raises(ValueError, match="at least one token"):
        transformer(**even)


def test_numbers_and_tensors_say_the_same(transformer, even):
    tensors = {**even, "fps": torch.full((2,), 24.0), "height": torch.tensor([48, 48]), "width": torch.tensor([64, 64])}
    with torch.no_grad():
        plain = transformer(**even).sample
        assert torch.equal(transformer(**tensors).sample, plain)
        assert torch.equal(transformer(**even, return_dict=False)[0], plain)
        assert torch.equal(transformer(**{**even, "height": None, "width": None}).sample, plain)  # 8 pixels per latent


def test_given_frames_count_as_clean(transformer, even):
    at_zero = {**even, "timestep": torch.zeros(2)}
    all_given = {**even, "frame_mask": torch.zeros(2, 5, dtype=torch.bool)}
    captured = []
    transformer.norm_out.register_forward_pre_hook(lambda _, args: captured.append(args[0]))
    with torch.no_grad():
        transformer(**at_zero)
        transformer(**all_given)
    torch.testing.assert_close(captured[1], captured[0], atol=1e-5, rtol=0)


# -- text, once per prompt --------------------------------------------------------------------------------------------


def test_text_worked_out_once_gives_the_same_velocity(transformer, even):
    projections = []
    for block in transformer.transformer_blocks:
        block.cross_attn.kv_linear.register_forward_hook(lambda *_: projections.append(1))
    with torch.no_grad():
        plain = transformer(**even).sample
        assert len(projections) == 4
        context = transformer.encode_text(even["encoder_hidden_states"], even["encoder_attention_mask"])
        call = {**even, "encoder_hidden_states": context, "encoder_attention_mask": None}
        for _ in range(3):
            assert torch.equal(transformer(**call).sample, plain)
    assert len(projections) == 8


def test_text_is_cut_to_the_longest_prompt(transformer, recorded):
    call = arguments(recorded, "odd_size_padded")  # one prompt of 5 tokens
    with torch.no_grad():
        context = transformer.encode_text(call["encoder_hidden_states"], call["encoder_attention_mask"])
    assert context.keys_values[0][0].shape[1] == 5
    assert context.mask is None


def test_a_text_context_is_split_like_a_tensor(transformer, even):
    with torch.no_grad():
        context = transformer.encode_text(even["encoder_hidden_states"], even["encoder_attention_mask"])
        plain = transformer(**even).sample
        for i, half in enumerate(context.chunk(2, dim=0)):
            call = {**even, "encoder_hidden_states": half, "encoder_attention_mask": None}
            call |= {"hidden_states": even["hidden_states"][i : i + 1], "timestep": even["timestep"][i : i + 1]}
            torch.testing.assert_close(transformer(**call).sample, plain[i : i + 1], atol=1e-5, rtol=0)
    with pytest.raises(ValueError, match="along its batch"):
        context.chunk(2, dim=1)


# -- attention --------------------------------------------------------------------------------------------------------


class CountingProcessor(OpenSoraAttnProcessor):
    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, *args, **kwargs):
        self.calls += 1
        return super().__call__(*args, **kwargs)


def test_processors_can_be_replaced_and_put_back(transformer, even):
    names = [f"transformer_blocks.{i}.{kind}.processor" for i in range(4) for kind in ("attn", "cross_attn")]
    before = transformer.attn_processors
    assert list(before) == names
    with torch.no_grad():
        plain = transformer(**even).sample
        counting = CountingProcessor()
        transformer.set_attn_processor({**before, names[0]: counting})
        assert torch.equal(transformer(**even).sample, plain)
        transformer.set_attn_processor(before)
        assert torch.equal(transformer(**even).sample, plain)
    assert counting.calls == 1


def test_self_attention_can_take_keys_and_values_from_elsewhere(transformer):
    attention = transformer.transformer_blocks[0].attn
    here, there = torch.randn(2, 3, 6, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        plain = attention(here)
        assert torch.equal(attention(here, encoder_hidden_states=here), plain)
        other = attention(here, encoder_hidden_states=there)
        assert not torch.allclose(other, plain)
        longer = attention(here, encoder_hidden_states=torch.cat([there, there], dim=1))
    torch.testing.assert_close(longer, other, atol=1e-5, rtol=0)  # each key twice weighs as each key once


def test_attention_tokens_are_what_the_first_block_attends_to(transformer, even):
    seen = []
    transformer.transformer_blocks[0].attn.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    with torch.no_grad():
        transformer(**even)
        tokens = transformer.attention_tokens(
            even["hidden_states"], even["timestep"], torch.full((2,), 24.0), height=48, width=64
        )
    assert tokens.shape == (2 * 5, 3 * 4, 64)
    assert torch.equal(tokens, seen[0])


@pytest.fixture
def flex_calls(monkeypatch):
    """One entry for every call of torch's flex attention, a kernel that also runs on a CPU."""
    from torch.nn.attention import flex_attention

    calls, attend = [], flex_attention.flex_attention
    monkeypatch.setattr(flex_attention, "flex_attention", lambda *args, **kw: calls.append(1) or attend(*args, **kw))
    return calls


def test_attention_backends_of_diffusers_can_be_chosen(transformer, even, flex_calls):
    with torch.no_grad():
        plain = transformer(**even).sample
        transformer.set_attention_backend("flex")
        torch.testing.assert_close(transformer(**even).sample, plain, atol=1e-5, rtol=0)
        assert (
            len(flex_calls) == 4
        )  # self-attention of each block; text of two lengths has a mask, and stays with torch's
        transformer.reset_attention_backend()
        assert torch.equal(transformer(**even).sample, plain)
    assert len(flex_calls) == 4
    with pytest.raises(ValueError, match="must be one of"):
        transformer.set_attention_backend("no such kernel")


def test_a_backend_chosen_for_a_stretch_of_code_is_used_there(transformer, recorded, flex_calls):
    call = arguments(recorded, "odd_size_padded")
    with torch.no_grad():
        plain = transformer(**call).sample
        with attention_backend("flex"):
            torch.testing.assert_close(transformer(**call).sample, plain, atol=1e-5, rtol=0)
        assert len(flex_calls) == 8  # one prompt needs no mask
        assert torch.equal(transformer(**call).sample, plain)
    assert len(flex_calls) == 8


def test_a_choice_for_one_model_is_no_choice_for_others(transformer, even):
    other = OpenSoraTransformer3DModel.from_config(transformer.config).eval()
    other.load_state_dict(transformer.state_dict())
    with torch.no_grad():
        plain = other(**even).sample
        transformer.set_attention_backend("_native_math")
        assert torch.equal(other(**even).sample, plain)


def test_without_cuda_torch_attends():
    assert attention_kernel("cpu", torch.float32, 72).value == "native"
    assert attention_kernel("mps", torch.float16, 72).value == "native"


def test_a_compiler_takes_the_decision_as_made():
    """It would trace the trial call of the decision into every block, and warn of that."""
    compiled = torch.compile(attend, backend="eager", fullgraph=True)
    query = torch.randn(2, 5, 2, 8)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert torch.equal(compiled(query, query, query), attend(query, query, query))


# -- training ---------------------------------------------------------------------------------------------------------


def test_gradient_checkpointing_gives_the_same_gradients(transformer, even):
    def gradients() -> list[torch.Tensor]:
        transformer.zero_grad()
        torch.manual_seed(0)  # which captions are dropped
        transformer(**even).sample.square().mean().backward()
        return [weight.grad.clone() for weight in transformer.parameters()]

    transformer.train()
    plain = gradients()
    forwards = []
    transformer.transformer_blocks[0].mlp.register_forward_hook(lambda *_: forwards.append(1))
    transformer.enable_gradient_checkpointing()
    for a, b in zip(plain, gradients(), strict=True):
        torch.testing.assert_close(a, b)
    assert len(forwards) == 2  # forward, and again on the way back


def test_training_drops_captions_and_inference_does_not(transformer, even):
    states, mask = even["encoder_hidden_states"], even["encoder_attention_mask"]
    null = transformer.null_caption(12).expand(2, -1, -1)
    transformer.register_to_config(class_dropout_prob=1.0)
    with torch.no_grad():
        dropped = transformer.encode_text(null, mask).keys_values[0][0]
        kept = transformer.encode_text(states, mask).keys_values[0][0]
        transformer.train()
        assert torch.equal(transformer.encode_text(states, mask).keys_values[0][0], dropped)
    assert not torch.equal(kept, dropped)


def test_a_new_model_starts_with_silent_temporal_blocks():
    transformer = OpenSoraTransformer3DModel(
        hidden_size=32, depth=1, num_heads=4, caption_channels=16, model_max_length=4
    )
    block = transformer.transformer_blocks[1]
    tokens, text = torch.randn(1, 3, 4, 32), torch.randn(1, 2, 32)
    with torch.no_grad():
        modulation, *_ = transformer.modulation(torch.tensor([500.0]), torch.tensor([24.0]))
        out = block(tokens, modulation, block.cross_attn.keys_values(text), None, transformer.rope(3, torch.float32))
    assert torch.equal(out, tokens)


# -- precision, places, files -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("dtype", "bound"), [(torch.bfloat16, 0.05), (torch.float16, 0.01)])
def test_half_precision_stays_near_fp32(transformer, recorded, dtype, bound):
    name = "temporal_mask"
    call = arguments(recorded, name)
    call["hidden_states"] = call["hidden_states"].to(dtype)
    with torch.no_grad():
        velocity = transformer.to(dtype)(**call).sample
    expected = recorded[f"{name}.out"][:, :4]
    assert velocity.dtype == dtype
    assert (velocity.float() - expected).norm() < bound * expected.norm()


def test_weights_may_wait_in_another_place_until_they_are_used(transformer, even):
    with torch.no_grad():
        plain = transformer(**even).sample
        tokens = transformer.attention_tokens(even["hidden_states"], even["timestep"], torch.full((2,), 24.0), 48, 64)
        cpu_offload(transformer, execution_device=torch.device("cpu"))
        assert all(weight.is_meta for weight in transformer.parameters())
        context = transformer.encode_text(even["encoder_hidden_states"], even["encoder_attention_mask"])
        call = {**even, "encoder_hidden_states": context, "encoder_attention_mask": None}
        assert torch.equal(transformer(**call).sample, plain)
        again = transformer.attention_tokens(even["hidden_states"], even["timestep"], torch.full((2,), 24.0), 48, 64)
    assert torch.equal(again, tokens)


def test_saved_and_loaded_again_it_is_the_same(transformer, even, tmp_path):
    transformer.save_pretrained(tmp_path)
    again = OpenSoraTransformer3DModel.from_pretrained(tmp_path)
    assert dict(again.config) | {"_name_or_path": None} == dict(transformer.config) | {"_name_or_path": None}
    with torch.no_grad():
        assert torch.equal(again(**even).sample, transformer(**even).sample)


def test_what_a_cpu_computes_without_gradients_differs_by_rounding_alone(transformer, even):
    with torch.no_grad():
        fused = transformer(**even).sample
    plain = transformer(**even).sample  # with gradients, every pass is torch's own
    assert not torch.equal(fused, plain)  # another way was taken ...
    assert torch.allclose(fused, plain.detach(), atol=2e-5)  # ... to the same place


def test_videos_that_share_a_timestep_share_its_modulation(transformer):
    timestep, fps = torch.tensor([700.0]), torch.tensor([24.0])
    alone, *_ = transformer.modulation(timestep.expand(2), fps.expand(2))
    each, *_ = transformer.modulation(timestep.repeat(2), fps.repeat(2))
    assert (alone.shape[0], each.shape[0]) == (1, 2)
    assert torch.allclose(alone.expand_as(each), each, atol=1e-6)
