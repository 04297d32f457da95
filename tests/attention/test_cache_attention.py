"""Cache Attention: what must hold whatever the weights are."""

import contextlib
import types

import pytest
import torch
from attention_kit import LEVELS, SIZE, Mirror, difference, latents, run, show_itself, text

from chai_app.attention import PAPER, TRAINED, Donor, Recipe, cache_attention
from chai_app.attention.donor import resampled
from chai_app.opensora.acceleration import accelerated


def test_a_donor_that_hears_no_prompt_is_worked_out_once_for_both_halves_of_guidance(model):
    start, states = latents(1), torch.cat([text(), -text()])
    rows = []
    handle = model.transformer_blocks[0].register_forward_pre_hook(lambda _, args: rows.append(len(args[0])))
    with cache_attention(model, Donor(clean=latents(2)), JOINED):
        both = run(model, torch.cat([start, start]), states=states)
    handle.remove()
    assert rows == [2, 1, 2, 2, 2, 2]
    for half, said in enumerate((text(), -text())):
        with cache_attention(model, Donor(clean=latents(2)), JOINED):
            alone = run(model, start, states=said)
        torch.testing.assert_close(both[1][half], alone[1][0], atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize("through", ["embedding", "blocks"])
@pytest.mark.parametrize("own_keys", ["replaced", "joined"])
def test_a_donor_equal_to_the_current_latents_changes_nothing(model, own_keys, through):
    start, states = latents(1), text()
    mirror = Mirror()
    handle = show_itself(model, mirror)
    recipe = Recipe(steps=(1, 2), own_keys=own_keys, through=through)
    with torch.no_grad():
        plain = model(hidden_states=start, timestep=700.0, encoder_hidden_states=states, **SIZE).sample
        with cache_attention(model, mirror, recipe) as reuse:
            again = model(hidden_states=start, timestep=700.0, encoder_hidden_states=states, **SIZE).sample
    handle.remove()
    assert reuse.calls == 1
    torch.testing.assert_close(again, plain, atol=2e-6, rtol=1e-5)


def test_a_run_that_begins_below_all_noise_puts_whole_noise_on_its_donor(model):
    """What the run begins with is noise made smaller; the donor gets it at the size that its level asks for."""
    seen = []

    class Listening(Donor):
        def at(self, noise_level, noise):
            seen.append((noise_level, noise))
            return super().at(noise_level, noise)

    recipe = Recipe(steps=(1,))
    with cache_attention(model, Listening(clean=latents(2)), recipe, first_sigma=0.8), torch.no_grad():
        model(0.8 * latents(1), 800.0, text(), **SIZE)
    ((level, noise),) = seen
    assert level == pytest.approx(0.8)
    torch.testing.assert_close(noise, latents(1))


def test_the_donor_is_attended_to_in_steps_2_to_4_alone(model):
    plain = run(model, latents(1))
    with cache_attention(model, Donor(clean=latents(2))) as reuse:
        reused = run(model, latents(1))
    assert reuse.steps_done == [2, 3, 4]
    assert reuse.calls == 3
    torch.testing.assert_close(reused[0], plain[0], rtol=0, atol=0)
    for step in (1, 2, 3):
        assert not torch.equal(reused[step], plain[step])


def test_a_step_in_which_attention_was_skipped_is_not_counted(model):
    """As PAB and MagCache skip it: the model runs, and the first block's attention does not."""
    block, skipped = model.spatial_block(0), []

    class Skipping(type(block.attn)):
        def forward(self, hidden_states, *args, **kwargs):
            if len(skipped) == 2:  # the third step
                skipped.append(True)
                return torch.zeros_like(hidden_states)
            skipped.append(False)
            return super().forward(hidden_states, *args, **kwargs)

    block.attn.__class__ = Skipping
    with cache_attention(model, Donor(clean=latents(2))) as reuse:
        run(model, latents(1))
    assert skipped == [False, False, True, False, False]
    assert (reuse.steps_done, reuse.calls) == ([2, 4], 2)


def test_the_number_of_a_step_is_the_loops_own(model):
    """A step in which the whole model was skipped counts all the same."""
    with cache_attention(model, Donor(clean=latents(2))) as reuse, torch.no_grad():
        for i in (0, 1, 3, 4):
            with model.cache_context("cond_uncond", step_index=i):
                model(latents(1), 1000 * LEVELS[i], text(), **SIZE)
    assert reuse.steps_done == [2, 4]


def test_outside_the_recipes_steps_a_run_is_bit_equal(model):
    plain = run(model, latents(1))
    with cache_attention(model, Donor(clean=latents(2)), Recipe(steps=(9,))) as reuse:
        same = run(model, latents(1))
    assert reuse.calls == 0
    assert all(torch.equal(a, b) for a, b in zip(plain, same, strict=True))


def test_taken_off_the_model_is_bit_equal_even_after_an_exception(model):
    before, plain = model.attn_processors, run(model, latents(1))
    with pytest.raises(RuntimeError, match="broken"), cache_attention(model, Donor(clean=latents(2))):
        run(model, latents(1))
        raise RuntimeError("broken")
    assert model.attn_processors == before
    assert not model._forward_pre_hooks
    assert all(torch.equal(a, b) for a, b in zip(plain, run(model, latents(1)), strict=True))


def test_a_second_run_within_the_block_counts_its_steps_anew(model):
    """As the loops of a long video do."""
    with cache_attention(model, Donor(clean=latents(2))) as reuse:
        first, second = run(model, latents(1)), run(model, latents(1))
    assert reuse.steps_done == [2, 3, 4, 2, 3, 4]
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_videos_of_a_batch_each_attend_to_their_own_donor(model):
    start, donors = latents(1, videos=3), latents(2, videos=3)
    order = torch.tensor([2, 0, 1])
    without = run(model, start, states=text(3))
    with cache_attention(model, Donor(clean=donors)) as reuse:
        plain = run(model, start, states=text(3))
    with cache_attention(model, Donor(clean=donors[order])):
        permuted = run(model, start[order], states=text(3)[order])
    for a, b in zip(plain, permuted, strict=True):
        torch.testing.assert_close(b, a[order], atol=2e-5, rtol=1e-4)
    with cache_attention(model, Donor(clean=donors[1:2])):
        alone = run(model, start[1:2], states=text(3)[1:2])
    torch.testing.assert_close(alone[-1], plain[-1][1:2], atol=2e-5, rtol=1e-4)
    assert reuse.calls == 3 and all(difference(plain[1][i], without[1][i]) > 1e-3 for i in range(3))
    with cache_attention(model, Donor(clean=donors[order])):
        strangers = run(model, start, states=text(3))
    assert all(difference(plain[1][i], strangers[1][i]) > 1e-3 for i in range(3)), "another donor, another video"


def test_both_halves_of_guidance_attend_to_the_same_donor(model):
    start, states = latents(1), torch.cat([text(), -text()])
    twice = torch.cat([start, start])
    plain = run(model, twice, states=states)
    with cache_attention(model, Donor(clean=latents(2))) as reuse:
        both = run(model, twice, states=states)
    with cache_attention(model, Donor(clean=latents(2))):
        swapped = run(model, twice, states=states.flip(0))
    torch.testing.assert_close(swapped[1], both[1].flip(0), atol=2e-5, rtol=1e-4)
    assert reuse.calls == 3 and all(difference(both[1][half], plain[1][half]) > 1e-3 for half in range(2))
    for half, own in enumerate((text(), -text())):
        with cache_attention(model, Donor(clean=latents(2))):
            alone = run(model, start, states=own)
        torch.testing.assert_close(both[1][half], alone[1][0], atol=2e-5, rtol=1e-4)


@torch.no_grad()
def test_no_frame_attends_to_the_donors_other_frames(model):
    """Seen at the layer itself: the temporal blocks behind it do mix frames."""
    seen = []
    attn = model.spatial_block(0).attn
    handle = attn.register_forward_hook(lambda _m, _a, out: seen.append(out))
    donor = latents(2)
    other = donor.clone()
    other[:, :, 2] += 1
    for each in (donor, other):
        with cache_attention(model, Donor(clean=each), Recipe(steps=(1,))):
            model(latents(1), 500.0, text(), **SIZE)
    handle.remove()
    changed = (seen[0] - seen[1]).abs().amax(dim=(1, 2)) > 1e-6  # by frame
    assert changed.tolist() == [False, False, True]


@torch.no_grad()
def test_frames_that_are_given_keep_to_themselves(model):
    seen = []
    attn = model.spatial_block(0).attn
    handle = attn.register_forward_hook(lambda _m, _a, out: seen.append(out))
    mask = torch.tensor([[False, True, True]])
    model(latents(1), 500.0, text(), frame_mask=mask, **SIZE)
    with cache_attention(model, Donor(clean=latents(2)), Recipe(steps=(1,))):
        model(latents(1), 500.0, text(), frame_mask=mask, **SIZE)
    handle.remove()
    changed = (seen[0] - seen[1]).abs().amax(dim=(1, 2)) > 1e-5
    assert changed.tolist() == [False, True, True]


def test_of_several_donors_keys_and_values_are_joined(model):
    """Twice the same donor weighs no more than once; another one beside it does change the answer."""
    one, two = Donor(clean=latents(2)), Donor(clean=latents(3))
    with cache_attention(model, one):
        single = run(model, latents(1))
    with cache_attention(model, (one, one)):
        double = run(model, latents(1))
    with cache_attention(model, (one, two)):
        both = run(model, latents(1))
    torch.testing.assert_close(double[-1], single[-1], atol=2e-5, rtol=1e-4)
    assert not torch.allclose(both[1], single[1], atol=1e-4)


@pytest.mark.parametrize("own_keys", ["replaced", "joined"])
def test_several_donors_equal_to_the_current_latents_change_nothing(model, own_keys):
    start, states, mirror = latents(1), text(), Mirror()
    handle = show_itself(model, mirror)
    recipe = Recipe(steps=(1,), own_keys=own_keys)
    with torch.no_grad():
        plain = model(hidden_states=start, timestep=700.0, encoder_hidden_states=states, **SIZE).sample
        with cache_attention(model, (mirror, mirror, mirror), recipe) as reuse:
            again = model(hidden_states=start, timestep=700.0, encoder_hidden_states=states, **SIZE).sample
    handle.remove()
    assert reuse.calls == 1
    torch.testing.assert_close(again, plain, atol=2e-6, rtol=1e-5)


def test_the_order_of_several_donors_means_nothing(model):
    small = Donor(clean=torch.randn(1, 4, 2, 4, 4, generator=torch.Generator().manual_seed(7)))
    donors = [Donor(clean=latents(2)), Donor(clean=latents(3)), small]
    with cache_attention(model, donors):
        forward = run(model, latents(1))
    with cache_attention(model, donors[::-1]):
        backward = run(model, latents(1))
    for a, b in zip(forward, backward, strict=True):
        torch.testing.assert_close(b, a, atol=2e-5, rtol=1e-4)


def test_videos_of_a_batch_each_attend_to_their_own_donors_where_these_are_several(model):
    start, first, second = latents(1, videos=3), latents(2, videos=3), latents(3, videos=3)
    order = torch.tensor([2, 0, 1])
    with cache_attention(model, (Donor(clean=first), Donor(clean=second))):
        plain = run(model, start, states=text(3))
    with cache_attention(model, (Donor(clean=first[order]), Donor(clean=second[order]))):
        permuted = run(model, start[order], states=text(3)[order])
    for a, b in zip(plain, permuted, strict=True):
        torch.testing.assert_close(b, a[order], atol=2e-5, rtol=1e-4)


@torch.no_grad()
def test_no_frame_attends_to_other_frames_of_any_of_several_donors(model):
    seen = []
    attn = model.spatial_block(0).attn
    handle = attn.register_forward_hook(lambda _m, _a, out: seen.append(out))
    one, two = latents(2), latents(3)
    other = two.clone()
    other[:, :, 1] += 1
    for each in (two, other):
        with cache_attention(model, (Donor(clean=one), Donor(clean=each)), Recipe(steps=(1,))):
            model(latents(1), 500.0, text(), **SIZE)
    handle.remove()
    changed = (seen[0] - seen[1]).abs().amax(dim=(1, 2)) > 1e-6  # by frame
    assert changed.tolist() == [False, True, False]


def test_through_the_blocks_a_donor_is_heard_as_the_model_itself_would_hear_it(model):
    """What each block's attention is given is what a plain pass of the donor's latents brings there; the first block
    needs no pass at all for that."""
    donor, heard = latents(2), []
    attns = [model.spatial_block(block).attn for block in (0, 1)]
    handles = [attn.register_forward_pre_hook(lambda _m, args: heard.append(args[0])) for attn in attns]

    class AsItIs(Donor):
        def at(self, noise_level, noise):
            return self.clean

    with torch.no_grad():
        model(donor, 500.0, text(), **SIZE)
        plain = list(heard)
        recipe = Recipe(steps=(1,), blocks=(0, 1), through="blocks")
        with cache_attention(model, AsItIs(clean=donor), recipe) as reuse:
            model(latents(1), 500.0, text(), **SIZE)
    for handle in handles:
        handle.remove()
    assert (reuse.calls, reuse.extra_passes) == (2, 1)
    torch.testing.assert_close(heard[2:4], plain, rtol=0, atol=0)  # the donor's pass comes before the run's own
    with torch.no_grad():
        answers = []
        for through in ("embedding", "blocks"):
            with cache_attention(model, Donor(clean=donor), Recipe(steps=(1,), through=through)):
                answers.append(model(latents(1), 500.0, text(), **SIZE).sample)
    torch.testing.assert_close(answers[0], answers[1], atol=2e-6, rtol=1e-5)


class Empty(Donor):
    """A donor of which a masked recipe sees nothing."""

    def __init__(self):
        super().__init__(clean=latents(2), mask=torch.zeros(1, 3, 3, 4, dtype=torch.bool))


@pytest.mark.parametrize("technique", ["pab", "first-block", "magcache", "taylorseer"])
@pytest.mark.parametrize("donor_level", [None, 0.1])
def test_for_a_technique_that_skips_work_the_donors_pass_is_no_step_of_the_run(model, technique, donor_level):
    """Else it would take the donor for what came before, and leave out other steps than without one."""
    pipeline = types.SimpleNamespace(transformer=model, current_timestep=500.0)
    recipe = Recipe(
        steps=(2, 3, 4), blocks=(1,), own_keys="joined", through="blocks", masked=True, donor_level=donor_level
    )
    ran, found = [], []
    handle = model.transformer_blocks[3].mlp.register_forward_pre_hook(lambda *_: ran.append(True))
    for donors in ((), (Empty(),)):
        ran.clear()
        with contextlib.ExitStack() as stack:
            stack.enter_context(accelerated(pipeline, technique, len(LEVELS), [1.0] * len(LEVELS)))
            if donors:
                reuse = stack.enter_context(cache_attention(model, donors, recipe))
            found.append((run(model, latents(1)), len(ran)))
    handle.remove()
    (plain, ran_plain), (reused, ran_reused) = found
    assert reuse.extra_passes == (1 if donor_level else 3)
    assert ran_reused - reuse.extra_passes == ran_plain
    for a, b in zip(plain, reused, strict=True):
        torch.testing.assert_close(b, a, atol=2e-5, rtol=1e-4)


def test_a_recipe_that_names_no_blocks_and_no_steps_means_all_of_them(model):
    blocks, steps = len(model.transformer_blocks) // 2, len(LEVELS)
    with cache_attention(model, Donor(clean=latents(2)), TRAINED) as reuse:
        run(model, latents(1))
    assert (reuse.steps_done, reuse.calls) == (list(range(1, steps + 1)), steps * blocks)
    assert reuse.extra_passes == 1


JOINED = Recipe(steps=(2, 3), blocks=(1,), own_keys="joined", through="blocks", donor_level=0.1)


def test_a_donor_that_is_shown_the_same_in_every_step_is_worked_out_once_a_run(model):
    plain = run(model, latents(1))
    with cache_attention(model, Donor(clean=latents(2)), JOINED) as reuse:
        once = run(model, latents(1))
        assert (reuse.extra_passes, reuse.steps_done) == (1, [2, 3])
        run(model, latents(1))
        assert reuse.extra_passes == 2  # a run of its own: its noise is another
    torch.testing.assert_close(once[0], plain[0], rtol=0, atol=0)
    assert difference(once[1], plain[1]) > 1e-4


def test_a_donor_that_is_shown_the_same_in_every_step_is_heard_under_no_prompt(model):
    """So what blocks hear of it does not depend on who asks."""
    heard = []
    for seed in (3, 4):
        states = torch.randn(1, 5, 16, generator=torch.Generator().manual_seed(seed))
        with cache_attention(model, Donor(clean=latents(2)), JOINED) as reuse:
            run(model, latents(1), states=states)
            heard.append(reuse._lasting[1])
    torch.testing.assert_close(heard[0], heard[1], rtol=0, atol=0)


@pytest.mark.parametrize("through", ["embedding", "blocks"])
def test_under_a_mask_only_its_tokens_of_a_donor_are_seen(model, through):
    """All of them is no mask, none of them is no donor, and what lies outside it has no say."""
    recipe = Recipe(steps=(2, 3), own_keys="joined", through=through, masked=True)
    mask = torch.zeros(1, 3, 3, 4, dtype=torch.bool)
    mask[:, :, 1, 1:3] = True

    def reused(mask, clean):
        with cache_attention(model, Donor(clean=clean, mask=mask), recipe) as reuse:
            found = run(model, latents(1))
        assert reuse.steps_done == [2, 3]
        return found[1]

    plain, whole = run(model, latents(1))[1], reused(None, latents(2))
    assert difference(whole, plain) > 1e-4
    torch.testing.assert_close(reused(torch.ones_like(mask), latents(2)), whole, atol=2e-6, rtol=1e-5)
    torch.testing.assert_close(reused(torch.zeros_like(mask), latents(2)), plain, atol=2e-6, rtol=1e-5)
    part = reused(mask, latents(2))
    assert difference(part, plain) > 1e-4 and difference(part, whole) > 1e-4
    if through == "embedding":  # in deeper blocks what is seen has looked around itself
        elsewhere = latents(2)
        elsewhere[..., :2, :] = 5.0
        torch.testing.assert_close(reused(mask, elsewhere), part, atol=2e-6, rtol=1e-5)


def test_a_mask_fits_a_run_of_another_size_and_a_batch_with_guidance():
    mask = torch.zeros(1, 2, 2, 2, dtype=torch.bool)
    mask[0, 1, 0, 1] = True
    seen = Donor(clean=latents(0), mask=mask).seen_tokens(frames=4, rows=4, columns=4, videos=2)
    assert seen.shape == (8, 16)
    assert seen.sum(1).tolist() == [0, 0, 4, 4, 0, 0, 4, 4]


def test_deeper_blocks_can_be_asked_for(model):
    with cache_attention(model, Donor(clean=latents(2)), Recipe(blocks=(0, 1))) as reuse:
        run(model, latents(1))
    assert reuse.calls == 6
    with (
        pytest.raises(ValueError, match="blocks"),
        cache_attention(model, Donor(clean=latents(2)), Recipe(blocks=(2,))),
    ):
        pass


def test_clean_latents_come_at_the_noise_level_of_the_step():
    clean, noise = latents(2), latents(3)
    donor = Donor(clean=clean)
    torch.testing.assert_close(donor.at(0.0, noise), clean)
    torch.testing.assert_close(donor.at(1.0, noise), noise)
    torch.testing.assert_close(donor.at(0.25, noise), 0.75 * clean + 0.25 * noise)


def test_a_donor_of_another_size_and_duration_is_resampled(model):
    smaller = torch.randn(1, 4, 2, 4, 4, generator=torch.Generator().manual_seed(4))
    with cache_attention(model, Donor(clean=smaller)) as reuse:
        run(model, latents(1))
    assert reuse.calls == 3
    flat = torch.full((1, 4, 2, 4, 4), 3.0)
    torch.testing.assert_close(resampled(flat, latents(1).shape), torch.full_like(latents(1), 3.0))


def test_a_donor_needs_latents_of_a_video_with_the_models_channels():
    with pytest.raises(ValueError, match=r"\(B, C, T, h, w\)"):
        Donor(clean=latents(1)[0])
    with pytest.raises(ValueError, match="cannot serve"):
        Donor(clean=torch.zeros(1, 8, 3, 6, 8)).at(0.5, latents(1))


def test_a_recipe_is_checked_where_it_is_made():
    for wrong in (
        {"steps": (0,)},
        {"blocks": (-1,)},
        {"donor_level": 1.1},
        {"masked": True},
    ):
        with pytest.raises(ValueError, match=r"must|count|joined"):
            Recipe(**wrong)
    assert Recipe() == PAPER
