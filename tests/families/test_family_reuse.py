"""Cache Attention on other families: what must hold whatever the weights are, in every use of each family."""

import diffusers
import pytest
import torch
from families_kit import CASES, CHANNELS, STEPS, Mirror, noise, run

from chai_app.attention import Donor
from chai_app.errors import BadRequest
from chai_app.families.known import HUNYUAN
from chai_app.families.reuse import family_cache_attention

# Shares of a diffusion are square roots that do not sum up to 1: what they are multiplied by and divided by again is
# not always the same in its last bit. Flows are bit-equal.
ALMOST = {"atol": 2e-6, "rtol": 1e-5}
SAME = {"atol": 0, "rtol": 0}


@pytest.fixture(scope="module")
def models():
    """Tiny transformers by case, made once: tests leave them as they were."""
    made = {}
    return lambda name: made.setdefault(name, CASES[name].transformer())


@pytest.fixture(params=CASES)
def case(request):
    return CASES[request.param]


@pytest.fixture
def model(request, models):
    return models(request.node.callspec.params["case"])


def on(case, model, donor, steps=(2, 3, 4)):
    return family_cache_attention(model, donor, steps, case.scheduler)


def test_a_donor_equal_to_the_current_latents_changes_nothing(case, model):
    start = noise(1)
    plain = run(case, model, start)
    mirror = Mirror(case)
    handle = mirror.show_itself(model)
    with on(case, model, mirror, steps=None) as reuse:
        again = run(case, model, start)
    handle.remove()
    assert reuse.steps_done == [1, 2, 3, 4, 5] and reuse.calls == STEPS
    for one, other in zip(again, plain, strict=True):
        torch.testing.assert_close(one, other, **(ALMOST if case.scheduler else SAME))


def test_steps_2_to_4_change_what_is_made_and_off_is_bit_equal(case, model):
    plain = run(case, model, noise(1))
    with on(case, model, Donor(clean=noise(2))) as reuse:
        reused = run(case, model, noise(1))
    assert reuse.steps_done == [2, 3, 4] and reuse.calls == 3
    torch.testing.assert_close(reused[0], plain[0], **SAME)
    for step in (1, 2, 3):
        assert not torch.equal(reused[step], plain[step])
    for one, other in zip(run(case, model, noise(1)), plain, strict=True):
        torch.testing.assert_close(one, other, **SAME)
    assert not model._diffusers_hook.hooks


def test_a_step_after_the_recipe_is_the_models_own(case, model):
    """Step 5 alone, of latents that a run with a donor left behind, is what the model makes of them without."""
    left = noise(1)
    with on(case, model, Donor(clean=noise(2))), torch.no_grad():
        for timestep in case.timesteps[:4]:
            left = left + 0.2 * case.velocity(model, left, timestep)
        fifth = case.velocity(model, left, case.timesteps[4])
    with torch.no_grad():
        torch.testing.assert_close(fifth, case.velocity(model, left, case.timesteps[4]), **SAME)


def test_videos_of_a_batch_and_the_halves_of_guidance_may_come_in_calls_of_their_own(case, model):
    """One call for two videos, or one for each in every step, as pipelines differ."""
    donor = Donor(clean=noise(2))
    start = noise(1).repeat(2, 1, 1, 1, 1)  # guidance: the same latents twice
    with on(case, model, donor) as reuse:
        together = run(case, model, start)
    assert reuse.calls == 3
    found = [], []
    with on(case, model, donor) as reuse, torch.no_grad():
        halves = list(start.split(1))
        for timestep in case.timesteps:
            for i in (0, 1):
                velocity = case.velocity(model, halves[i], timestep)
                found[i].append(velocity)
                halves[i] = halves[i] + 0.2 * velocity
    assert reuse.calls == 6 and reuse.steps_done == [2, 3, 4]
    for i in (0, 1):
        for one, other in zip(found[i], together, strict=True):
            torch.testing.assert_close(one[0], other[i], atol=1e-4, rtol=1e-3)


def test_each_video_of_a_batch_may_have_a_donor_of_its_own(case, model):
    starts, donors = torch.cat([noise(1), noise(3)]), torch.cat([noise(2), noise(4)])
    with on(case, model, Donor(clean=donors)):
        together = run(case, model, starts)
    for i in (0, 1):
        with on(case, model, Donor(clean=donors[i : i + 1])):
            alone = run(case, model, starts[i : i + 1])
        torch.testing.assert_close(alone[1][0], together[1][i], atol=1e-4, rtol=1e-3)


def test_a_donor_of_another_size_and_length_is_resampled(case, model):
    donor = Donor(clean=noise(2, frames=5, rows=8, columns=10))
    same_size = Donor(clean=donor.at(0.0, noise(1)))
    with on(case, model, donor):
        found = run(case, model, noise(1))
    with on(case, model, same_size):
        wanted = run(case, model, noise(1))
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one, other, **SAME)


def test_a_donor_of_another_model_is_refused(case, model):
    with (
        pytest.raises(BadRequest, match=f"with 16 channels is of another model.* of {CHANNELS}"),
        on(case, model, Donor(clean=noise(2, channels=16))),
    ):
        pass


def test_a_run_that_fails_leaves_the_model_as_it_was(case, model):
    plain = run(case, model, noise(1))
    with pytest.raises(ZeroDivisionError), on(case, model, Donor(clean=noise(2)), steps=None), torch.no_grad():
        case.velocity(model, noise(1), case.timesteps[0])
        raise ZeroDivisionError
    for one, other in zip(run(case, model, noise(1)), plain, strict=True):
        torch.testing.assert_close(one, other, **SAME)


def test_what_hides_the_first_block_is_refused(case):
    model = case.transformer()
    if hasattr(model, "fuse_qkv_projections") and case.family is not HUNYUAN:  # there, it does nothing
        model.fuse_qkv_projections()
        with pytest.raises(BadRequest, match="has fused projections"), on(case, model, Donor(clean=noise(2))):
            pass
        model.unfuse_qkv_projections()
    with on(case, model, Donor(clean=noise(2))):
        pass
    blocks = model.get_submodule(case.family.attention.split(".")[0])
    for compiled in (model, blocks[0]):
        compiled.compile()
        with pytest.raises(BadRequest, match="is compiled"), on(case, model, Donor(clean=noise(2))):
            pass
        compiled._compiled_call_impl = None
    with pytest.raises(BadRequest, match="is compiled"), on(case, torch.compile(model), Donor(clean=noise(2))):
        pass
    blocks[0] = torch.compile(blocks[0])
    with pytest.raises(BadRequest, match="is compiled"), on(case, model, Donor(clean=noise(2))):
        pass


def test_steps_that_share_a_timestep_are_told_apart_by_the_names_of_their_calls(models):
    """As bfloat16 rounds the first timesteps of HunyuanVideo, whose pipeline names its calls and counts no steps."""
    case, model, changed = CASES["hunyuan"], models("hunyuan"), []
    with on(case, model, Donor(clean=noise(2))) as reuse, torch.no_grad():
        for timestep in (1000.0, 1000.0, 996.0, 996.0, 996.0, 992.0):
            for name in ("pred_cond", "pred_uncond"):
                before = reuse.calls
                with model.cache_context(name):
                    case.velocity(model, noise(1), timestep)
                changed.append(reuse.calls - before)
    assert changed == [0, 0, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0]
    assert reuse.steps_done == [2, 3, 4]


def test_steps_that_a_loop_counts_are_taken_from_it(models):
    case, model = CASES["wan"], models("wan")
    with on(case, model, Donor(clean=noise(2))) as reuse, torch.no_grad():
        for i in (0, 1, 4, 3):
            with model.cache_context("cond", step_index=i):
                case.velocity(model, noise(1), 1000.0 - 100 * i)
    assert reuse.steps_done == [2, 4]


def test_levels_for_whole_frames_are_refused(models):
    """Diffusion forcing, as SkyReels V2 has it too."""
    case, model, donor = CASES["skyreels"], models("skyreels"), Donor(clean=noise(2))
    for rows, columns in ((4, 6), (4, 4)):
        call = case.call(noise(1, rows=rows, columns=columns), torch.tensor([[900.0, 800.0, 700.0]]))
        with on(case, model, donor, steps=None), pytest.raises(BadRequest, match="without diffusion forcing"):
            model(**call, enable_diffusion_forcing=True)


def test_a_transformer_spread_over_devices_is_refused(models):
    model = models("wan")
    model._parallel_config = diffusers.ParallelConfig()
    with pytest.raises(BadRequest, match="spread over several devices"):
        on(CASES["wan"], model, Donor(clean=noise(2))).__enter__()
    model._parallel_config = None


def test_experts_take_turns_within_one_run_and_count_its_steps_together():
    """Wan 2.2: the second expert begins at step 3, with a donor embedded by itself."""
    case = CASES["wan"]
    experts = [case.transformer(seed) for seed in (1, 2)]
    plain = run(case, experts, noise(1))
    with on(case, experts, Donor(clean=noise(2))) as reuse:
        reused = run(case, experts, noise(1))
    assert reuse.steps_done == [2, 3, 4] and reuse.calls == 3
    torch.testing.assert_close(reused[0], plain[0], **SAME)
    assert all(not torch.equal(reused[step], plain[step]) for step in (1, 2, 3))
    mirror = Mirror(case)
    handles = [mirror.show_itself(expert) for expert in experts]
    with on(case, experts, mirror):
        again = run(case, experts, noise(1))
    for handle in handles:
        handle.remove()
    for one, other in zip(again, plain, strict=True):
        torch.testing.assert_close(one, other, **SAME)
    with pytest.raises(BadRequest, match="not Wan and LTX-Video"):
        on(case, [experts[0], CASES["ltx"].transformer()], Donor(clean=noise(2))).__enter__()


def test_other_refusals_are_one_sentence(models):
    donor, ltx, cogvideox = Donor(clean=noise(2)), models("ltx"), models("cogvideox")
    with pytest.raises(BadRequest, match="Linear is no transformer that Cache Attention knows"):
        on(CASES["wan"], torch.nn.Linear(1, 1), donor).__enter__()
    with pytest.raises(BadRequest, match="CogVideoX asks its scheduler"):
        on(CASES["wan"], cogvideox, donor).__enter__()
    with on(CASES["ltx"], ltx, donor), pytest.raises(BadRequest, match=r"finds 72 tokens for 0 frames"):
        ltx(**CASES["ltx"].call(noise(1), torch.tensor([500.0])) | {"num_frames": None})
    three = Donor(clean=noise(2, videos=3))
    with on(CASES["ltx"], ltx, three, steps=None), pytest.raises(BadRequest, match="give one donor, or one for each"):
        run(CASES["ltx"], ltx, noise(1))
    cached = CASES["wan"].transformer()
    cached.enable_cache(diffusers.FirstBlockCacheConfig())
    with pytest.raises(BadRequest, match="caching technique"):
        on(CASES["wan"], cached, donor).__enter__()


@pytest.mark.parametrize("name", ["wan", "ltx-first-frame", "mochi"])
def test_a_donor_of_a_flow_is_as_noisy_as_the_step(name, models):
    case, levels = CASES[name], []

    class Listening(Donor):
        def at(self, noise_level, noise):
            levels.append(noise_level)
            return super().at(noise_level, noise)

    with on(case, models(name), Listening(clean=noise(2)), steps=None):
        run(case, models(name), noise(1))
    assert levels == [1.0, 0.8125, 0.625, 0.4375, 0.25]


@pytest.mark.parametrize("name", ["cogvideox", "latte", "allegro"])
def test_a_donor_of_a_diffusion_is_as_noisy_as_its_scheduler_makes_latents(name):
    family, scheduler = CASES[name].family, CASES[name].scheduler
    for i in range(5):
        scheduler = scheduler.from_config(scheduler.config)  # one that has not begun
        scheduler.set_timesteps(5)
        timestep = scheduler.timesteps[i]
        wanted = scheduler.scale_model_input(scheduler.add_noise(noise(2), noise(1), timestep[None]), timestep)
        clean, noisy = family.shares(float(timestep), scheduler)
        # Euler's timesteps are fractions, of which the nearest whole one is taken.
        torch.testing.assert_close(clean * noise(2) + noisy * noise(1), wanted, atol=5e-3, rtol=0)


def test_what_is_given_of_a_first_frame_is_given_to_the_donor_too(models):
    """So a donor that differs in its first frame alone changes nothing."""
    for name in ("wan-first-frame", "ltx-first-frame", "ltx2-first-frame"):
        first, other = noise(2), noise(2)
        other[:, :, 0] += 1
        found = []
        for clean in (first, other):
            with on(CASES[name], models(name), Donor(clean=clean)):
                found.append(run(CASES[name], models(name), noise(1)))
        assert all(torch.equal(one, two) for one, two in zip(*found, strict=True)), name
