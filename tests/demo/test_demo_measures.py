from dataclasses import replace
from random import Random

import numpy as np
import pytest
import torch

from chai_app.demo.drawn.data import specs
from chai_app.demo.drawn.looks import SCENE_TRAITS, THING_TRAITS, SceneLook, ThingLook
from chai_app.demo.drawn.render import render
from chai_app.demo.drawn.spec import FRAME_SIZE_PX, MOTIONS, OBJECTS, ClipSpec, Scene, Thing, sample_any_spec
from chai_app.demo.learn import features as learn_features
from chai_app.demo.learn import judge as learn_judge
from chai_app.demo.learn.loop import Settings
from chai_app.demo.measure import Measured, measure, per_clip, table
from chai_app.demo.measure.features import (
    Features,
    blur,
    calibrate,
    corruptions,
    density_coverage,
    kid,
    load_features,
    noise,
    save_features,
    shuffled,
    waver,
)
from chai_app.demo.measure.fit import fit_frames, silhouettes, soft_iou
from chai_app.demo.measure.judge import Judge, Poses, load_judge, raw_poses, save_judge, targets
from chai_app.demo.measure.motion import motion_errors
from chai_app.demo.measure.sharpness import sharpness
from chai_app.demo.measure.traits import background_variety, kept, kept_all, likeness

AT = (0, 8, 16)


def spec_of(object="fish", motion="spinning", seed=3, build="even", hat="top hat"):
    thing = Thing(object, "red", ThingLook("stripes", "mint", "round", hat, build))
    return ClipSpec((thing,), 1, Scene("desert", SceneLook("day", "first", 0.3)), motion, seed)


def halved(mask):
    return mask.reshape(len(mask), 48, 2, 48, 2).mean((2, 4))


def true_poses(path):
    return np.stack([path.x, path.y, path.radius, path.angle], axis=1).astype(np.float64)


def as_poses(path, length=17):
    """One clip's true path as the judge would tell it, (1, T) each."""
    angle = np.angle(np.exp(1j * path.angle))
    facing = np.full(length, (path.facing + 1) / 2)
    return Poses(*(np.asarray(each, dtype=np.float32)[None] for each in (path.x, path.y, path.radius, angle, facing)))


@pytest.fixture(scope="module")
def real():
    random = Random(5)
    shown = [replace(sample_any_spec(random, 0, 0), motion=MOTIONS[i % len(MOTIONS)]) for i in range(12)]
    return np.stack([render(spec).frames for spec in shown]), shown


@pytest.fixture(scope="module")
def features(real):
    torch.manual_seed(0)
    fresh = Features().eval().requires_grad_(False)
    fresh.measure_scale(real[0])
    return fresh


# --- fit by the renderer, with the renderer's own mask in the place of the judge's


@pytest.mark.parametrize("object", OBJECTS)
def test_a_silhouette_is_what_the_renderer_draws(object):
    drawn = render(spec_of(object))
    path = drawn.path
    beat = (np.linspace(0, 1, 17) + path.beat) % 1
    thing = spec_of(object).things[0]
    found = silhouettes(thing, true_poses(path), np.full(17, path.facing), beat)
    assert soft_iou(found, halved(drawn.mask)).min() > 0.97


@pytest.mark.parametrize("object", OBJECTS)
def test_a_fit_finds_a_thing_from_a_rough_guess(object):
    spec = spec_of(object)
    drawn = render(spec)
    start = true_poses(drawn.path)[list(AT)] + [1.5, -1.0, 1.0, 0.06]
    frames, masks = drawn.frames[list(AT)], halved(drawn.mask[list(AT)])
    iou, margin, _, poses = fit_frames(spec.things[0], frames, masks, start)
    assert iou.min() > 0.93
    assert margin.min() > 0.02
    assert np.abs(poses - true_poses(drawn.path)[list(AT)])[:, :2].max() < 1.2


def test_a_real_thing_fits_better_than_another_and_than_mush():
    spec = spec_of("fish")
    drawn = render(spec)
    at = list(AT)
    start, masks = true_poses(drawn.path)[at], halved(drawn.mask[at])
    iou, margin, artefacts, _ = fit_frames(spec.things[0], drawn.frames[at], masks, start)

    other = render(spec_of("car"))
    wrong_iou, wrong_margin, wrong_artefacts, _ = fit_frames(
        spec.things[0], other.frames[at], halved(other.mask[at]), true_poses(other.path)[at]
    )
    assert wrong_iou.max() < iou.min()
    assert wrong_margin.max() < 0 < margin.min()
    assert wrong_artefacts.min() > artefacts.max()

    mush = blur(drawn.frames[None, at], 3.0)[0]
    soft = blur(np.repeat((255 * drawn.mask[None, at])[..., None], 3, -1).astype(np.uint8), 5.0)[0, ..., 0] / 255
    blurred_iou, blurred_margin, blurred_artefacts, _ = fit_frames(spec.things[0], mush, halved(soft), start)
    assert blurred_iou.max() < iou.min()
    assert blurred_margin.mean() < margin.mean()
    assert (blurred_artefacts > artefacts).all()


# --- the law of motion, on true paths


@pytest.mark.parametrize("count", [1, 2, 3])
@pytest.mark.parametrize("motion", MOTIONS)
def test_the_worlds_own_paths_keep_its_law(motion, count):
    for seed in range(4):
        spec = replace(spec_of(motion=motion, seed=seed), count=count)
        errors = motion_errors(as_poses(render(spec, np.linspace(0, 1, 17, dtype=np.float32)).path), [spec])
        assert errors.residual_px[0] < 0.1
        assert errors.velocity_px[0] < 0.2  # the range is read off a sample
        assert errors.jerk_px[0] < 0.3
        assert errors.radius_drift[0] < 0.01


@pytest.mark.parametrize("motion", MOTIONS)
def test_any_other_motion_and_a_still_clip_are_off_the_law(motion):
    asked = spec_of(motion=motion)
    for other in MOTIONS:
        if other != motion:
            errors = motion_errors(as_poses(render(spec_of(motion=other)).path), [asked])
            assert errors.residual_px[0] > 3
            assert errors.velocity_px[0] > 3
    still = render(asked, np.full(17, 0.5, dtype=np.float32)).path
    assert motion_errors(as_poses(still), [asked]).velocity_px[0] > 3


@pytest.mark.parametrize("motion", MOTIONS)
def test_shuffled_time_and_wavering_show_in_residual_and_jerk(motion):
    spec = spec_of(motion=motion)
    path = render(spec).path
    order = np.random.default_rng(0).permutation(17)
    mixed = replace(path, **{name: getattr(path, name)[order] for name in ("x", "y", "radius", "angle")})
    shaken = replace(path, x=path.x + np.random.default_rng(1).normal(0, 1, 17))
    straight = motion_errors(as_poses(path), [spec])
    for spoilt in (mixed, shaken):
        errors = motion_errors(as_poses(spoilt), [spec])
        assert errors.residual_px[0] > straight.residual_px[0] + 0.5
        assert errors.jerk_px[0] > straight.jerk_px[0] + 1


def test_a_thing_that_swells_without_being_asked_drifts():
    spec = spec_of(motion="rising")
    path = render(spec).path
    swollen = replace(path, radius=path.radius * np.linspace(1, 1.3, 17))
    assert motion_errors(as_poses(swollen), [spec]).radius_drift[0] > 0.2


# --- features


def test_every_corruption_is_further_from_real_clips_the_stronger_it_is(features, real):
    clips, _ = real
    spoilers = [
        replace(spoiler, strengths=(spoiler.strengths[0], spoiler.strengths[-1]))
        for spoiler in corruptions(round_trip=lambda clips: blur(clips, 0.7))
    ]
    curve = calibrate(features, clips[:8], clips[:8], spoilers, subset_size=8)
    floor = curve[0].kid
    by_name = {}
    for point in curve[1:]:
        by_name.setdefault(point.corruption, []).append(point.kid)
    assert set(by_name) >= {"blur (px)", "waver (px)", "shuffled time (share)", "noise (of 255)", "autoencoder (times)"}
    for values in by_name.values():
        assert values[-1] > values[0] > floor


def test_corruptions_keep_shape_and_change_what_they_say(real):
    clips, _ = real
    for spoil, strength in ((blur, 1.0), (waver, 1.0), (shuffled, 1.0), (noise, 8.0)):
        spoilt = spoil(clips[:2], strength)
        assert spoilt.shape == clips[:2].shape and spoilt.dtype == np.uint8
        assert (spoilt != clips[:2]).any()
    mixed = shuffled(clips[:1], 1.0)
    assert sorted(frame.tobytes() for frame in mixed[0]) == sorted(frame.tobytes() for frame in clips[0])


def test_kid_is_unbiased_and_sees_a_shift():
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 1000, 16))
    mean, error = kid(a, b)
    assert abs(mean) < 4 * error
    shifted, error = kid(a, b + 0.5)
    assert shifted > 10 * error


def test_density_falls_with_quality_and_coverage_with_variety():
    rng = np.random.default_rng(0)
    real, same = rng.normal(size=(2, 400, 4))
    density, coverage = density_coverage(real, same)
    worse, _ = density_coverage(real, same + 3)
    assert density.mean() > 0.4 > 0.1 > worse.mean()
    _, copied = density_coverage(real, np.repeat(same[:5], 80, axis=0))
    assert copied.mean() < 0.2 < coverage.mean()
    assert density.max() <= 1


# --- sharpness


def test_sharpness_falls_with_blur_and_rises_with_noise(real):
    clips, _ = real
    assert sharpness(clips, clips).mean() == pytest.approx(1)
    assert sharpness(blur(clips, 0.7), clips).mean() < 0.8
    assert sharpness(blur(clips, 2.0), clips).mean() < sharpness(blur(clips, 0.7), clips).mean()
    assert sharpness(noise(clips, 20.0), clips).mean() > 1.2


# --- traits


def told(values):
    """Traits as a sure judge would tell them: by name, (N, T) of numbers to (N, T, 3) of probabilities."""
    return {name: np.eye(3, dtype=np.float32)[np.asarray(numbers)] for name, numbers in values.items()}


def test_traits_that_change_through_a_clip_are_not_kept():
    steady = {name: np.zeros((2, 5), dtype=int) for name in THING_TRAITS}
    steady["hat"][1, 3:] = 2
    assert kept(told(steady)).tolist() == [1.0, 0.8]
    assert kept_all(told(steady)).tolist() == [1.0, 0.0]


def test_likeness_to_a_donor_is_told_against_chance():
    rng = np.random.default_rng(0)
    donors = {name: rng.integers(3, size=(900, 1)) for name in THING_TRAITS}
    strangers = {name: rng.integers(3, size=(900, 1)) for name in THING_TRAITS}
    names = list(THING_TRAITS)
    assert likeness(told(donors), told(donors), names).above_chance == 1
    apart = likeness(told(donors), told(strangers), names)
    assert apart.chance == pytest.approx(1 / 3, abs=0.01)
    assert apart.above_chance == pytest.approx(0, abs=0.05)
    one = {name: np.zeros((900, 1), dtype=int) for name in THING_TRAITS}  # a model that always draws the same thing
    assert likeness(told(donors), told(one), names).above_chance == pytest.approx(0, abs=0.02)


def test_one_background_for_all_is_no_variety():
    random = Random(0)
    shown = [sample_any_spec(random) for _ in range(400)]
    tables = {name: list(values) for name, values in SCENE_TRAITS.items()}
    theirs = {name: [[tables[name].index(getattr(spec.scene.look, name))] for spec in shown] for name in tables}
    assert background_variety(told(theirs), shown) == pytest.approx(1, abs=0.05)
    assert background_variety(told({name: np.zeros((400, 1), dtype=int) for name in tables}), shown) == 0


# --- the judge, and all together


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A judge that has learnt a handful of clips by heart."""
    folder = tmp_path_factory.mktemp("judge")
    drawn = learn_judge.draw(folder / "data", "judge", 6, stride=4)
    shown = specs("judge", 6)
    frames = Settings(steps=40, batch_size=8, peak_lr=3e-3, warmup_steps=5, use_muon=True)
    motion = Settings(steps=60, batch_size=12, peak_lr=3e-3, warmup_steps=5)
    judge = learn_judge.train_judge(drawn, shown, folder, frames, motion)
    return judge, drawn, shown, folder


def test_drawing_goes_on_where_it_was_interrupted(trained):
    _, drawn, shown, folder = trained
    again = learn_judge.draw(folder / "data", "judge", 6, stride=4)
    assert np.array_equal(again.frames, drawn.frames) and drawn.frames.any()
    assert np.array_equal(again.frames[0], render(shown[0]).frames[::4])
    assert raw_poses(torch.from_numpy(drawn.paths)).abs().max() <= 1


def test_a_judge_learns_and_is_surer_of_the_right_answer(trained):
    judge, drawn, shown, _ = trained
    clips = drawn.frames
    wrong = shown[1:] + shown[:1]
    right_odds, wrong_odds = judge.log_odds(clips, shown), judge.log_odds(clips, wrong)
    for question in ("object", "colour", "scene", "motion"):
        assert right_odds[question].mean() > wrong_odds[question].mean()
    verdicts = judge.verdicts(clips, [len(spec.things) for spec in shown])
    agreed = [sum(verdict.agrees(spec).values()) for verdict, spec in zip(verdicts, shown, strict=True)]
    assert np.mean(agreed) > 3
    overlap = soft_iou(judge.masks(clips), drawn.masks / 255)
    assert overlap.mean() > 0.3  # one half everywhere has 0.13


def test_log_odds_are_those_of_the_probabilities():
    torch.manual_seed(0)
    judge = Judge().eval()
    spec = spec_of()
    seen = judge.look(render(spec).frames[None, :3])
    odds = seen.log_odds([spec])
    for question in ("scene", "motion", "count"):
        p = seen.logits[question].softmax(1)[0, targets([spec])[question][0]].item()
        assert odds[question][0] == pytest.approx(np.log(p / (1 - p)), abs=1e-4)


def test_a_judge_and_features_come_back_from_their_files(trained, features, tmp_path):
    judge, drawn, _, _ = trained
    save_judge(judge, tmp_path / "judge.safetensors")
    save_features(features, tmp_path / "features.safetensors")
    assert (tmp_path / "judge.safetensors").stat().st_size < 3_000_000
    assert (tmp_path / "features.safetensors").stat().st_size < 1_000_000
    again = load_judge(tmp_path / "judge.safetensors")
    np.testing.assert_allclose(again.masks(drawn.frames[:1]), judge.masks(drawn.frames[:1]), atol=0.02)  # fp16
    loaded = load_features(tmp_path / "features.safetensors")
    x = drawn.frames[:2]
    np.testing.assert_allclose(loaded.clip_features(x), features.clip_features(x), atol=0.2)


def test_a_mirror_swaps_left_and_right_of_pose_and_motion():
    pose = raw_poses(torch.tensor([[60.0, 40.0, 18.0, 0.5, 1.0]]))
    mirrored = raw_poses(torch.tensor([[FRAME_SIZE_PX - 60.0, 40.0, 18.0, -0.5, -1.0]]))
    torch.testing.assert_close(learn_judge._mirrored(pose), mirrored)
    assert MOTIONS[learn_judge.MIRRORED[MOTIONS.index("moving left")]] == "moving right"


def test_features_learn_without_labels(real, tmp_path):
    settings = Settings(steps=3, batch_size=4, peak_lr=1e-3, warmup_steps=2)
    trained = learn_features.train_features(real[0][:6, ::2], tmp_path, settings)
    found = trained.clip_features(real[0][:6])
    np.testing.assert_allclose(found.mean(0), 0, atol=1e-3)


def test_measure_takes_every_measure_and_table_shows_them(trained, features, real):
    judge, *_ = trained
    clips, shown = real
    arms = {
        "real": measure(judge, features, clips, shown, clips),
        "blurred": measure(judge, features, blur(clips, 2.0), shown, clips),
    }
    for name, found in arms["real"].items():
        assert isinstance(found, Measured)
        assert found.values is None or found.values.shape == (len(clips),), name
    assert arms["blurred"]["sharpness"].mean < arms["real"]["sharpness"].mean
    assert arms["blurred"]["KID"].mean > arms["real"]["KID"].mean
    text = table(arms)
    assert "| fit, IoU | higher |" in text and text.splitlines()[0] == "| measure | better | real | blurred |"


def test_a_measure_leaves_out_clips_that_it_says_nothing_of():
    found = per_clip(np.array([1.0, np.nan, 3.0]), "higher")
    assert (found.mean, found.error) == (2.0, 1.0)
    assert np.isnan(per_clip(np.array([np.nan]), "higher").mean)
