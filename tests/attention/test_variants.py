"""The ways to attend that only the ablation knows: what must hold whatever the weights are."""

import pytest
import torch
from attention_kit import SIZE, Mirror, latents, show_itself, text

from chai_app.attention import CacheAttentionProcessor, Donor, Recipe, cache_attention
from chai_app.bench.variants import ByLikeness, ConditionalHalf, HalfAndHalf, KeptSteps, capture_points

FIRST_STEP = Recipe(steps=(1,))


@pytest.mark.parametrize("donors", [1, 3])
@pytest.mark.parametrize("processor", [HalfAndHalf, ByLikeness, ConditionalHalf])
def test_donors_equal_to_the_current_latents_change_nothing(model, processor, donors):
    start, states, mirror = torch.cat([latents(1)] * 2), torch.cat([text(), -text()]), Mirror()
    handle = show_itself(model, mirror)
    with torch.no_grad():
        plain = model(hidden_states=start, timestep=700.0, encoder_hidden_states=states, **SIZE).sample
        with cache_attention(model, (mirror,) * donors, FIRST_STEP, processor=processor) as reuse:
            again = model(hidden_states=start, timestep=700.0, encoder_hidden_states=states, **SIZE).sample
    handle.remove()
    assert reuse.calls == 1
    torch.testing.assert_close(again, plain, atol=2e-6, rtol=1e-5)


@pytest.mark.parametrize("donors", [1, 2])
def test_the_unconditional_half_can_keep_to_itself(model, donors):
    start, states = latents(1), torch.cat([text(), -text()])
    twice = torch.cat([start, start])
    several = (Donor(clean=latents(2)), Donor(clean=latents(3)))[:donors]
    with torch.no_grad():
        plain = model(twice, 700.0, states, **SIZE).sample
        with cache_attention(model, several, FIRST_STEP, processor=ConditionalHalf):
            half = model(twice, 700.0, states, **SIZE).sample
    torch.testing.assert_close(half[0], plain[0], atol=2e-6, rtol=1e-5)
    assert not torch.allclose(half[1], plain[1], atol=1e-3)


def test_answers_that_oppose_are_not_blended_by_likeness(model):
    """At each token and head the blend lies between keeping to itself and the donor, by the cosine of the two."""
    answers, attn = {}, model.spatial_block(0).attn
    for norm in (attn.q_norm, attn.k_norm):
        torch.nn.init.constant_(norm.weight, 20.0)  # every query finds something else
    for name, parameter in model.named_parameters():  # what the latents say, undiluted
        if name.endswith("bias"):
            torch.nn.init.zeros_(parameter)
    for processor in (CacheAttentionProcessor, ByLikeness, HalfAndHalf):
        seen = []
        handle = attn.proj.register_forward_hook(lambda _m, args, _out, seen=seen: seen.append(args[0]))
        with torch.no_grad():
            model(20 * latents(1), 500.0, text(), **SIZE)
            with cache_attention(model, Donor(clean=-20 * latents(1)), FIRST_STEP, processor=processor):
                model(20 * latents(1), 500.0, text(), **SIZE)
        handle.remove()
        answers[processor] = [each.unflatten(-1, (2, -1)) for each in seen]  # (T, S, heads, head width)
    own, theirs = answers[CacheAttentionProcessor]
    likeness = torch.nn.functional.cosine_similarity(own, theirs, dim=-1)[..., None]
    assert (likeness < 0).any() and (likeness > 0).any()
    blend = answers[ByLikeness][1]
    torch.testing.assert_close(blend, own + likeness.clamp(min=0) * (theirs - own), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(answers[HalfAndHalf][1], (own + theirs) / 2, atol=1e-5, rtol=1e-4)


def test_of_kept_steps_the_nearest_in_noise_is_taken():
    donor = KeptSteps(latents(0), by_noise_level={0.9: latents(1), 0.7: latents(2)})
    torch.testing.assert_close(donor.at(0.85, latents(5)), latents(1))
    torch.testing.assert_close(donor.at(0.2, latents(5)), latents(2))


def test_the_steps_kept_of_a_full_run_are_the_nearest_to_those_that_will_be_asked_for():
    full = [1 - i / 30 for i in range(30)]
    fast = [1 - i / 8 for i in range(8)]
    points = capture_points(full, fast, (2, 3, 4))
    assert points == {2: 5, 3: 8, 4: 12}
    assert capture_points(full, fast[:3], (2, 3, 4)).keys() == {2, 3}
