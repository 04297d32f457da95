from random import Random

import numpy as np
import pytest

from chai_app.demo.drawn.captions import (
    COLOUR_WORDS,
    FIXED_PHRASES,
    MOTION_WORDS,
    NOUNS,
    SCENE_NOUNS,
    SCENE_PHRASES,
    all_words,
    caption,
)
from chai_app.demo.drawn.data import SHARES, clips, pair, specs
from chai_app.demo.drawn.looks import SCENE_TRAITS, THING_TRAITS, SceneLook, ThingLook, trait_numbers
from chai_app.demo.drawn.render import render
from chai_app.demo.drawn.spec import (
    COLOURS,
    MOTIONS,
    OBJECTS,
    SCENES,
    ClipSpec,
    Scene,
    Thing,
    held_out_specs,
    is_for_training,
)
from chai_app.demo.learn.text import fixed_wording, new_tokenizer

LOOK = ThingLook("plain", "navy", "round", "none", "even")
PLACE = SceneLook("day", "first", 0.3)


def drawn(name="fish", colour="green", look=LOOK, scene="moon", motion="spinning", place=PLACE):
    return render(ClipSpec((Thing(name, colour, look),), 1, Scene(scene, place), motion, seed=3))


def test_training_never_sees_a_held_out_combination():
    assert all(is_for_training(spec) for spec in specs("train", 3000))


def test_every_object_colour_and_scene_is_trained_on_and_held_out_somewhere():
    trained = {(thing.object, thing.colour, spec.scene.name) for spec in specs("train", 4000) for thing in spec.things}
    held_out = {(spec.things[0].object, spec.things[0].colour, spec.scene.name) for spec in held_out_specs(200)}
    for column, names in enumerate((OBJECTS, COLOURS, SCENES)):
        assert {row[column] for row in trained} == set(names)
        assert {row[column] for row in held_out} == set(names)
    assert not trained & held_out
    assert len(held_out) == 36


def test_the_second_clip_of_a_pair_shares_what_it_says():
    seen = set()
    for number in range(200):
        first, second, shared = pair("train", number)
        seen.add(shared)
        assert (second.things[0] == first.things[0]) == (shared in ("thing", "both"))
        assert (second.scene == first.scene) == (shared in ("scene", "both"))
        assert specs("train", 2, start=2 * number) == [first, second]
    assert seen == set(SHARES)


def test_held_out_prompts_ask_for_every_motion_about_equally_often():
    counts = {motion: sum(spec.motion == motion for spec in held_out_specs(200)) for motion in MOTIONS}
    assert max(counts.values()) - min(counts.values()) <= 1


def test_the_splits_share_no_clip():
    seeds = {split: {spec.seed for spec in specs(split, 600)} for split in ("train", "judge", "test")}
    assert not seeds["train"] & seeds["test"]
    assert not seeds["judge"] & seeds["test"]


def test_a_clip_is_drawn_the_same_way_every_time():
    spec = specs("test", 1)[0]
    first = render(spec)
    assert first.frames.shape == (17, 96, 96, 3)
    assert first.frames.dtype == np.uint8
    np.testing.assert_array_equal(first.frames, render(spec).frames)


def test_one_moment_is_the_frame_that_the_whole_clip_has_there():
    for spec in specs("test", 6):
        moment = render(spec, np.array([0.5], dtype=np.float32)).frames[0].astype(int)
        assert np.abs(moment - render(spec).frames[8]).max() <= 1  # rounding


@pytest.mark.parametrize("motion", MOTIONS)
def test_every_motion_moves_something(motion):
    clip = drawn(motion=motion, scene="city").frames.astype(int)
    assert max(np.abs(frame - clip[0]).mean() for frame in clip) > 1.0


@pytest.mark.parametrize("name", OBJECTS)
def test_the_colour_asked_for_is_the_colour_seen(name):
    green, red = (drawn(name, colour).frames.astype(int) for colour in ("green", "red"))
    changed = np.abs(red - green).sum(-1) > 60
    assert changed.mean() > 0.02
    assert (red[..., 0] - red[..., 1])[changed].mean() > 40
    assert (green[..., 1] - green[..., 0])[changed].mean() > 40


@pytest.mark.parametrize("name", OBJECTS)
@pytest.mark.parametrize("trait", THING_TRAITS)
def test_every_trait_of_every_thing_can_be_seen(name, trait):
    """Each of its values gives another picture, and changes the thing alone."""
    looks = [ThingLook(**{**LOOK.__dict__, trait: value}) for value in THING_TRAITS[trait]]
    pictures = [drawn(name, look=look) for look in looks]
    for a, b in ((0, 1), (0, 2), (1, 2)):
        difference = np.abs(pictures[a].frames[0].astype(int) - pictures[b].frames[0]).sum(-1)
        assert (difference > 60).sum() > 30, (looks[a], looks[b])
        shadow = np.arange(96)[:, None] > 70
        touched = (pictures[a].mask[0] > 0) | (pictures[b].mask[0] > 0) | shadow
        assert not (difference > 3)[~touched].any()


@pytest.mark.parametrize("scene", SCENES)
@pytest.mark.parametrize("trait", SCENE_TRAITS)
def test_every_trait_of_every_scene_can_be_seen(scene, trait):
    plain = {"light": "day", "skyline": "first", "place": 0.3}
    pictures = [
        drawn(scene=scene, place=SceneLook(**{**plain, trait: value})).frames[0].astype(int)
        for value in SCENE_TRAITS[trait]
    ]
    for a, b in ((0, 1), (0, 2), (1, 2)):
        assert (np.abs(pictures[a] - pictures[b]).sum(-1) > 40).mean() > 0.01


def test_traits_have_numbers():
    assert trait_numbers(ThingLook("dots", "navy", "sleepy", "none", "wide")) == (2, 0, 1, 0, 2)
    assert trait_numbers(SceneLook("night", "second", 0.5)) == (2, 1)


def test_the_mask_covers_the_thing_and_nothing_else():
    on_moon, in_city = drawn(scene="moon"), drawn(scene="city")
    np.testing.assert_array_equal(on_moon.mask, in_city.mask)
    whole = on_moon.mask == 1
    assert 0.05 < whole.mean() < 0.4
    np.testing.assert_array_equal(on_moon.frames[whole], in_city.frames[whole])


def test_no_caption_names_what_a_look_decides():
    said = set(all_words())
    assert not said & {value for values in (*THING_TRAITS.values(), *SCENE_TRAITS.values()) for value in values}
    assert not said & {"pine", "dusk", "night", "striped", "dotted", "hat", "eyes", "tall", "wide"}


def test_every_noun_of_a_scene_stands_after_every_preposition_with_every_article():
    for name, nouns in SCENE_NOUNS.items():
        for noun in nouns:
            assert sum(phrase.endswith(f" {noun}") for phrase in SCENE_PHRASES[name]) >= 10


def test_a_complete_caption_names_everything_and_stays_in_the_vocabulary():
    random, words = Random(0), set(all_words())
    for spec in specs("judge", 400):
        text = caption(spec, random, complete=True)
        assert set(text.replace(",", " ").split()) <= words
        answer = fixed_wording(spec, text)
        assert "any" not in answer.split(), (text, answer)


def test_the_tokenizer_keeps_known_words_apart_and_folds_unknown_ones_together():
    tokenizer = new_tokenizer()
    ids = tokenizer("A red ball, jungle tiger").input_ids
    assert ids[-1] == tokenizer.eos_token_id
    assert len(set(ids[:4])) == 4
    assert ids[4] == ids[5] == tokenizer.unk_token_id


def test_two_kinds_of_things_are_always_two():
    with pytest.raises(ValueError, match="two kinds show 2"):
        ClipSpec((Thing("ball", "red", LOOK), Thing("car", "blue", LOOK)), 3, specs("test", 1)[0].scene, "rising", 0)


def test_a_word_names_one_thing_only():
    """A word that two scenes, or two things, share could not decide what is drawn."""
    for table in (NOUNS, COLOUR_WORDS, SCENE_NOUNS, FIXED_PHRASES, MOTION_WORDS):
        phrases = [phrase for options in table.values() for phrase in {str(option) for option in options}]
        assert len(phrases) == len(set(phrases))


def test_rendering_goes_on_where_it_was_interrupted(tmp_path):
    whole = np.array(clips(tmp_path / "whole", "test", 6, workers=1))
    folder = tmp_path / "broken"
    clips(folder, "test", 6, workers=1)[3:] = 0
    (folder / "test-clips-6.json").write_text('{"done": 3}')
    np.testing.assert_array_equal(clips(folder, "test", 6, workers=1), whole)
