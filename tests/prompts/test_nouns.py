"""What is known of nouns, and where it is derived from."""

from pathlib import Path

import pytest

from chai_app.prompts import derive_nouns
from chai_app.prompts.nouns import is_gerund, is_seen, kind_of, longest_compound, singular

ROOM = Path(derive_nouns.__file__).parent


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("place", "bedroom valley harbor villages lisbon stage"),
        ("building", "fountain café skyscraper lighthouse viaduct"),
        ("either", "toilet bridge arch"),
        ("medium", "mud rain fog"),
        ("planet", "moon planet star"),
        ("plant", "tree sunflowers"),
        ("picture", "painting photograph"),
        ("group", "herd crowd"),
        ("thing", "bear orange robot dragon women"),
        ("abstract", "evening energy"),
        ("action", "style jump spring"),
    ],
)
def test_nouns_have_the_class_that_their_place_in_wordnet_gives_them(kind, words):
    # What is not listed is taken for a thing.
    assert {word: kind_of(word) or "thing" for word in words.split()} == dict.fromkeys(words.split(), kind)


def test_compounds_are_known_where_their_last_word_says_something_else():
    assert kind_of("golf course") == "place"
    assert longest_compound(["big", "hot", "dogs"]) == (2, "thing")
    assert longest_compound(["red", "ball"]) == (1, None)


def test_words_for_what_a_camera_sees_are_told_from_the_others():
    assert is_seen("orange") and is_seen("dragons")
    assert not is_seen("evening") and not is_seen("frabjous")


def test_singulars_follow_the_rules_of_english_and_its_exceptions():
    plurals = "balls boxes buses cherries cookies leaves geese women lenses skis volcanoes"
    singulars = "ball box bus cherry cookie leaf goose woman lens ski volcano"
    assert [singular(word) for word in plurals.split()] == singulars.split()
    for word in ("lens", "canvas", "paris", "scissors", "glass", "octopus", "sheep", "hot dog", ""):
        assert singular(word) == word


def test_words_in_ing_are_verbs_unless_they_are_things():
    assert is_gerund("sailing") and is_gerund("landing")
    assert not any(is_gerund(word) for word in ("ceiling", "duckling", "building", "ring", "ball"))


def test_the_licence_of_wordnet_stands_beside_what_is_derived_from_it():
    assert derive_nouns.LICENSE in derive_nouns.OUTPUT.read_text(encoding="utf-8").split("\n", 1)[0]
    licence = (ROOM / derive_nouns.LICENSE).read_text(encoding="utf-8")
    assert "WordNet 3.0 Copyright 2006 by Princeton University" in licence and "AS IS" in licence


def test_a_word_takes_the_class_that_most_of_its_senses_have(tmp_path):
    """A hierarchy of six synsets in WordNet's own format: a tank is a thing three times as often as a lake."""
    write_wordnet(tmp_path)
    wordnet = derive_nouns.WordNet(tmp_path)
    assert wordnet.votes("tank") == [("00000004", 9 + 3), ("00000005", 1 + 1.5)]
    assert wordnet.is_a("00000005", "00000001") and not wordnet.is_a("00000004", "00000002")
    assert wordnet.irregular == {"tanken": "tank"}


def write_wordnet(folder: Path) -> None:
    synsets = [
        ("00000001", "entity", ""),
        ("00000002", "lake", "@ 00000001 n 0000"),
        ("00000003", "vehicle", "@ 00000001 n 0000"),
        ("00000004", "tank", "@ 00000003 n 0000"),
        ("00000005", "tank", "@ 00000002 n 0000"),
    ]
    data = [f"{at} 03 n 01 {word} 0 00{int(bool(up))} {up} | a gloss" for at, word, up in synsets]
    (folder / "data.noun").write_text("  1 the licence\n" + "\n".join(data) + "\n")
    (folder / "index.noun").write_text(
        "  1 the licence\nentity n 1 0 1 0 00000001\ntank n 2 1 @ 2 2 00000004 00000005\n"
    )
    (folder / "cntlist.rev").write_text("tank%1:06:00:: 1 9\ntank%1:17:00:: 2 1\nbig%3:00:01:: 1 5\n")
    (folder / "noun.exc").write_text("tanken tank\n")
    for name in ("index.verb", "index.adj"):
        (folder / name).write_text("  1 the licence\n")
