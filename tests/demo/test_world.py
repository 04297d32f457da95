from random import Random

import numpy as np
import pytest

from chai_app.demo.captions import all_words, caption
from chai_app.demo.data import clips, specs
from chai_app.demo.render import render
from chai_app.demo.train_text import fixed_wording, new_tokenizer
from chai_app.demo.world import (
    COLOURS,
    MOTIONS,
    OBJECTS,
    SCENES,
    ClipSpec,
    Thing,
    held_out_specs,
    is_held_out,
)


def test_training_never_sees_a_held_out_combination():
    for spec in specs("train", 2000):
        assert not any(is_held_out(thing, spec.scene) for thing in spec.things), spec


def test_every_object_colour_and_scene_is_trained_on_and_held_out_somewhere():
    trained = {(thing.object, thing.colour, spec.scene) for spec in specs("train", 4000) for thing in spec.things}
    held_out = {(spec.things[0].object, spec.things[0].colour, spec.scene) for spec in held_out_specs(200)}
    for column, names in enumerate((OBJECTS, COLOURS, SCENES)):
        assert {row[column] for row in trained} == set(names)
        assert {row[column] for row in held_out} == set(names)
    assert not trained & held_out
    assert len(held_out) == 36


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
    assert first.shape == (17, 64, 64, 3)
    assert first.dtype == np.uint8
    np.testing.assert_array_equal(first, render(spec))


@pytest.mark.parametrize("motion", MOTIONS)
def test_every_motion_moves_something(motion):
    clip = render(ClipSpec((Thing("fish", "yellow"),), 1, "city", motion, seed=5)).astype(int)
    assert max(np.abs(frame - clip[0]).mean() for frame in clip) > 1.0


@pytest.mark.parametrize("name", OBJECTS)
def test_the_colour_asked_for_is_the_colour_seen(name):
    plain = render(ClipSpec((Thing(name, "green"),), 1, "moon", "spinning", seed=3)).astype(int)
    red = render(ClipSpec((Thing(name, "red"),), 1, "moon", "spinning", seed=3)).astype(int)
    changed = np.abs(red - plain).sum(-1) > 60
    assert changed.mean() > 0.02
    assert (red[..., 0] - red[..., 1])[changed].mean() > 40
    assert (plain[..., 1] - plain[..., 0])[changed].mean() > 40


def test_a_complete_caption_names_everything_and_stays_in_the_vocabulary():
    random, words = Random(0), set(all_words())
    for spec in specs("judge", 300):
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
        ClipSpec((Thing("ball", "red"), Thing("car", "blue")), 3, "moon", "rising", 0)


def test_rendering_goes_on_where_it_was_interrupted(tmp_path):
    whole = np.array(clips(tmp_path / "whole", "test", 6, workers=1))
    folder = tmp_path / "broken"
    clips(folder, "test", 6, workers=1)[3:] = 0
    (folder / "test-6.json").write_text('{"done": 3}')
    np.testing.assert_array_equal(clips(folder, "test", 6, workers=1), whole)
