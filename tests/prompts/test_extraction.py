"""Objects and scenes of prompts, as people write them."""

from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chai_app.demo.captions import NOUNS, caption
from chai_app.demo.world import sample_any_spec
from chai_app.prompts import Mention, Mentions, extract, foreign_language


def objects(prompt: str) -> list[str]:
    return [entity.phrase for entity in extract(prompt).objects]


def scenes(prompt: str) -> list[str]:
    return [entity.phrase for entity in extract(prompt).scenes]


def heads(prompt: str) -> list[str]:
    return [entity.head for entity in extract(prompt).objects]


def test_an_object_has_a_head_a_phrase_its_attributes_and_a_count():
    found = extract("a red balloon rising in the desert")
    assert found.objects == (Mention("balloon", "red balloon", ("red",), 1),)
    assert found.scenes == (Mention("desert", "desert", (), 1),)


@pytest.mark.parametrize(
    ("prompt", "count"),
    [
        ("two lanterns", 2),
        ("the 3 lanterns", 3),
        ("a pair of paper lanterns", 2),
        ("a dozen lanterns", 12),
        ("half a dozen lanterns", 6),
        ("two dozen lanterns", 24),
        ("twenty-one lanterns", 21),
        ("five hundred lanterns", 500),
        ("1,200 lanterns", 1200),
        ("a lantern", 1),
        ("one lantern", 1),
        ("the lantern", 1),
        ("her lantern", 1),
        ("the widow's lantern", 1),
        ("a 2 storey lantern", 1),
        ("lanterns", None),
        ("the lanterns", None),
        ("several hundred lanterns", None),
        ("a lot of lanterns", None),
    ],
)
def test_counts_come_from_words_digits_pairs_and_articles(prompt, count):
    lantern = extract(prompt).objects[-1]
    assert (lantern.head, lantern.count) == ("lantern", count)


def test_a_pair_of_scissors_is_one():
    assert extract("a pair of scissors on a shelf").objects[0].count == 1


@pytest.mark.parametrize(
    ("plural", "head"),
    [
        ("wolves", "wolf"),
        ("children", "child"),
        ("cherries", "cherry"),
        ("zombies", "zombie"),
        ("walruses", "walrus"),
        ("foxes", "fox"),
        ("sheep", "sheep"),
        ("potatoes", "potato"),
    ],
)
def test_the_head_is_in_the_singular_and_the_phrase_as_written(plural, head):
    assert extract(f"three old {plural}").objects == (Mention(head, f"three old {plural}", ("old",), 3),)


def test_a_compound_that_is_not_what_its_last_word_says_is_its_own_head():
    assert heads("a hot dog, a teddy bear and a sea lion") == ["hot dog", "teddy bear", "sea lion"]
    assert heads("a black cat, a golden retriever and a beach ball") == ["cat", "retriever", "ball"]


def test_what_a_thing_is_covered_with_is_no_scene():
    assert scenes("a wooden table with a shiny surface") == []
    assert objects("a surfer rides big waves") == ["surfer", "big waves"]


@pytest.mark.parametrize(
    ("prompt", "scene"),
    [
        ("a goat on a snowy mountain", "snowy mountain"),
        ("a kite over the sand dunes", "sand dunes"),
        ("a diver under water", "water"),
        ("a diver underwater", "underwater"),
        ("underwater a diver waves", "underwater"),
        ("a lighthouse keeper at sea", "sea"),
        ("a monkey among the trees", "trees"),
        ("a rover on the moon", "moon"),
        ("a rover on the surface of Mars", "mars"),
        ("a satellite in outer space", "outer space"),
        ("a singer in the rain", "rain"),
        ("a vendor in Marrakesh", "marrakesh"),
        ("a vendor in Qarth", "qarth"),
        ("a tram between the houses of Lisbon", "lisbon"),
        ("an otter at the edge of a pond", "pond"),
        ("a busker on a street corner", "street corner"),
        ("a rover on the lunar surface", "lunar surface"),
        ("a rocket over the moon surface", "moon surface"),
        ("a gull over the waves", "waves"),
    ],
)
def test_a_place_after_a_preposition_of_place_is_a_scene(prompt, scene):
    assert scene in scenes(prompt)


@pytest.mark.parametrize(
    "prompt", ["greenhouse", "ski slope", "a railway bridge, dawn", "abandoned theme park", "toilet"]
)
def test_a_bare_place_is_a_scene(prompt):
    assert (len(scenes(prompt)), objects(prompt)) == (1, []) or "bridge" in prompt


def test_a_thing_stays_an_object_wherever_it_stands():
    assert objects("a spoon in a cup on a tray") == ["spoon", "cup", "tray"]
    assert objects("a stool to the left of a toilet") == ["stool", "toilet"]
    assert objects("a star above one lonely tree") == ["star", "lonely tree"]


@pytest.mark.parametrize(
    "framing",
    [
        *("front view", "oil painting", "4k", "in slow motion", "close-up", "Van Gogh style", "cinematic"),
        *("black and white", "shallow depth of field", "highly detailed", "35mm film", "zoom in", "pan left"),
        *("Unreal Engine 5", "in watercolor style", "wide shot", "the camera slowly pans", "studio lighting"),
        *("racking focus", "at dusk", "during rush hour", "in spring", "masterpiece", "trending on artstation"),
    ],
)
def test_words_of_camera_style_and_time_are_no_entities(framing):
    assert extract(f"a badger, {framing}").objects == (Mention("badger", "badger", (), 1),)
    assert scenes(f"a badger, {framing}") == []


@pytest.mark.parametrize(
    "opening",
    [
        "a video of",
        "close-up of",
        "an oil painting of",
        "a bird's eye view of",
        "a herd of",
        "a lot of",
        "Make a clip of",
    ],
)
def test_openings_are_no_entities_but_what_follows_is(opening):
    assert extract(f"{opening} brown bisons") == Mentions((Mention("bison", "brown bisons", ("brown",), None),))


def test_a_painting_that_hangs_in_the_video_is_an_object():
    assert objects("a thief stealing a painting from a museum") == ["thief", "painting"]
    assert objects("a model walking in a garden with two statues and three paintings") == [
        "model",
        "two statues",
        "three paintings",
    ]


@pytest.mark.parametrize(
    "motion",
    [
        *("rising", "slowly sinking", "moving to the right", "drifting from left to right", "coming closer"),
        *("getting bigger", "growing", "turning around", "coming towards us", "jumps", "is happily dancing"),
    ],
)
def test_motion_is_no_entity(motion):
    assert extract(f"a grey whale {motion}") == Mentions((Mention("whale", "grey whale", ("grey",), 1),))


@pytest.mark.parametrize(
    ("prompt", "found"),
    [
        ("a man and a woman", ["man", "woman"]),
        ("a nurse drinking tea", ["nurse", "tea"]),
        ("a kid flies a kite", ["kid", "kite"]),
        ("a carpenter painting a fence", ["carpenter", "fence"]),
        ("A girl's red bicycle", ["girl", "red bicycle"]),
        ("hot air balloon, golden retriever, old sewing machine", ["hot air balloon", "golden retriever"]),
        ("a black and white cow", ["black and white cow"]),
        ("a small, round table", ["small, round table"]),
        ("a beautiful, handcrafted ceramic bowl", ["beautiful, handcrafted ceramic bowl"]),
        ("an orange and a remote", ["orange", "remote"]),
        ("Frida Kahlo holding a flask", ["frida kahlo", "flask"]),
        ("a potted plant next to a traffic light", ["potted plant", "traffic light"]),
    ],
)
def test_verbs_names_and_lists_are_read_as_people_write_them(prompt, found):
    assert objects(prompt)[: len(found)] == found


def test_pronouns_and_what_is_not_there_are_no_entities():
    assert objects("it follows them, nobody knows why, no people") == []
    assert extract("an empty beach without people").objects == ()


def test_what_is_named_twice_is_one_entity():
    assert objects("a red ball bounces; the ball, the red ball, hits a red ball") == ["red ball"]
    assert objects("a red ball and a blue ball") == ["red ball", "blue ball"]


def test_capitals_and_missing_articles_change_nothing_but_counts():
    for prompt in ("A Red Kite Over The Harbor", "RED KITE OVER THE HARBOR", "red kite over the harbor"):
        assert (objects(prompt), scenes(prompt)) == (["red kite"], ["harbor"])


@pytest.mark.parametrize(
    "prompt", ["", "   ", ".,;:!", "🎈🎈", "красный шар", "赤い風船", "'", "'s", "''''s's", "\x00\n\t"]
)
def test_where_nothing_can_be_read_nothing_is_found(prompt):
    assert extract(prompt) == Mentions()


def test_signs_and_quotes_around_words_do_not_matter():
    assert objects("“a fox”—🦊 (two owls) *moth*") == ["fox", "two owls", "moth"]


@given(st.text(max_size=200))
@settings(max_examples=60, deadline=None)
def test_any_text_gives_the_same_entities_twice_and_never_an_error(prompt):
    found = extract(prompt)
    assert extract(prompt) == found
    for entity in (*found.objects, *found.scenes):
        assert entity.head and entity.phrase == entity.phrase.lower().strip()


_PIECES = "a the two red orange , and of in 's dog dogs flying lake at sunset is to view no . pair closer 4k"


@given(st.lists(st.sampled_from(_PIECES.split()), max_size=25))
@settings(max_examples=150, deadline=None)
def test_any_order_of_words_is_read_without_an_error(pieces):
    found = extract(" ".join(pieces))
    phrases = [entity.phrase for entity in (*found.objects, *found.scenes)]
    assert len(phrases) == len(set(phrases))


def test_ten_thousand_characters_are_no_more_work_for_each_word(count_calls):
    words = "a big, orange, shiny, round, very very old and red car near the sea, "
    few, many = count_calls(words), count_calls(words * 150)
    assert many < 200 * few


def test_captions_of_the_demo_world_are_read_in_full():
    for seed in range(200):
        spec, text = sample_any_spec(Random(seed)), caption(sample_any_spec(Random(seed)), Random(seed), complete=True)
        found = extract(text)
        assert len(found.objects) == len(spec.things) and len(found.scenes) == 1, text
        for thing, entity in zip(spec.things, found.objects, strict=True):
            assert any(entity.phrase.endswith(noun) for forms in NOUNS[thing.object] for noun in forms), text
            assert entity.attributes, text
            assert entity.count == (spec.count if len(spec.things) == 1 else 1), text


@pytest.mark.parametrize(
    ("sentence", "language"),
    [
        ("die Katze schläft auf dem Sofa", "German"),
        ("il pescatore porta una rete sulla spiaggia", "Italian"),
        ("кот сидит на крыше", "another script"),
        ("la la land", None),
        ("a fiesta in Buenos Aires with café au lait and a piñata", None),
        ("the old man and the sea", None),
    ],
)
def test_a_language_is_told_by_its_small_words_and_its_sentences_name_nothing(sentence, language):
    assert foreign_language(sentence) == language
    assert bool(heads(sentence) + scenes(sentence)) == (language is None)
