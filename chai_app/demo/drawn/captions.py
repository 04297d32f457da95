"""Captions for clips, in varied wording: synonyms, word orders, sentences and mere lists of words.

Scenes and things are nouns that any wording can take up ("in a reef", "over the coral reef", "red fish, reef"), so
that every word of the vocabulary works alone. What a look decides is never said.
"""

from __future__ import annotations

from random import Random

from .spec import COLOURS, MOTIONS, OBJECTS, SCENES, ClipSpec, Thing

NOUNS: dict[str, tuple[tuple[str, str], ...]] = {  # (one, several)
    "ball": (("ball", "balls"), ("beach ball", "beach balls")),
    "balloon": (("balloon", "balloons"), ("hot air balloon", "hot air balloons")),
    "car": (("car", "cars"), ("toy car", "toy cars"), ("automobile", "automobiles")),
    "boat": (("boat", "boats"), ("sailboat", "sailboats"), ("ship", "ships")),
    "fish": (("fish", "fish"), ("goldfish", "goldfish")),
    "star": (("star", "stars"), ("starfish", "starfish")),
    "rocket": (("rocket", "rockets"), ("spaceship", "spaceships")),
    "mushroom": (("mushroom", "mushrooms"), ("toadstool", "toadstools")),
}
COLOUR_WORDS: dict[str, tuple[str, ...]] = {
    "red": ("red", "bright red", "crimson"),
    "yellow": ("yellow", "bright yellow"),
    "green": ("green", "bright green"),
    "blue": ("blue", "bright blue"),
    "purple": ("purple", "violet"),
    "white": ("white", "snow white"),
}
# Nouns that any of the scene's prepositions and an article can stand before, and fixed phrases.
SCENE_NOUNS: dict[str, tuple[str, ...]] = {
    "desert": ("desert", "sandy desert", "dunes", "sand dunes", "sand"),
    "ocean": ("ocean", "sea", "open sea", "water", "waves"),
    "forest": ("forest", "woods", "trees", "green forest", "wood"),
    "city": ("city", "town", "city street", "street", "big city"),
    "moon": ("moon", "lunar surface", "surface of the moon", "moon surface"),
    "reef": ("reef", "coral reef", "corals", "sea floor", "underwater world"),
}
PREPOSITIONS: dict[str, tuple[str, ...]] = {
    "desert": ("in", "over", "through", "across", "among"),
    "ocean": ("on", "over", "at", "across", "above"),
    "forest": ("in", "through", "over", "among", "near"),
    "city": ("in", "over", "through", "across", "above"),
    "moon": ("on", "over", "across", "above", "near"),
    "reef": ("in", "over", "through", "at", "near"),
}
FIXED_PHRASES: dict[str, tuple[str, ...]] = {
    "ocean": ("at sea",),
    "moon": ("in space", "in outer space"),
    "reef": ("under water", "underwater"),
}


def _scene_phrases(name: str) -> tuple[str, ...]:
    """Every way in which a sentence takes a scene up: "in a reef", "over the coral reef", "underwater"."""
    phrases = []
    for preposition in PREPOSITIONS[name]:
        for noun in SCENE_NOUNS[name]:
            articles = ("the ", "") if noun.endswith("s") else ("the ", "an " if noun[0] in "aeiou" else "a ")
            phrases += [f"{preposition} {article}{noun}" for article in articles]
    return (*phrases, *FIXED_PHRASES.get(name, ()) * 4)


SCENE_PHRASES = {name: _scene_phrases(name) for name in SCENES}
MOTION_WORDS: dict[str, tuple[str, ...]] = {
    "rising": ("rising", "floating up", "going up", "climbing", "flying upwards", "moving up"),
    "falling": ("falling", "falling down", "sinking", "dropping", "going down", "moving down"),
    "moving right": (
        "moving right",
        "moving to the right",
        "going right",
        "drifting to the right",
        "gliding from left to right",
    ),
    "moving left": (
        "moving left",
        "moving to the left",
        "going left",
        "drifting to the left",
        "gliding from right to left",
    ),
    "spinning": ("spinning", "rotating", "turning around", "spinning around", "tumbling"),
    "coming closer": (
        "coming closer",
        "approaching",
        "getting closer",
        "growing",
        "getting bigger",
        "coming towards us",
    ),
}
OPENINGS = ("", "", "", "", "a video of ", "a clip of ", "an animation of ", "a short film of ", "a scene with ")
ADJECTIVES = ("", "", "", "", "", "little ", "small ", "big ", "shiny ", "pretty ", "cute ", "beautiful ", "lovely ")
ADVERBS = ("", "", "", "", "slowly ", "gently ", "quickly ", "happily ")
COUNT_WORDS = {2: ("two", "two", "a pair of", "2"), 3: ("three", "three", "3")}
SHARE_OF_LISTS = 0.12  # of the captions: "red fish, reef, spinning"


def caption(spec: ClipSpec, random: Random, complete: bool = False) -> str:
    """Describe a clip as a person might.

    Args:
        complete: name object, colour, scene, motion and count always; otherwise each of colour, scene and motion is
            left out of about one caption in eight.
    """
    keep_colour, keep_scene, keep_motion = (complete or random.random() > 0.12 for _ in range(3))
    several = spec.count > 1
    motion = random.choice(ADVERBS) + random.choice(MOTION_WORDS[spec.motion]) if keep_motion else ""
    if random.random() < SHARE_OF_LISTS:
        words = [_bare(thing, spec.count if len(spec.things) == 1 else 1, random, keep_colour) for thing in spec.things]
        words += [random.choice(SCENE_NOUNS[spec.scene.name])] * keep_scene + [motion] * keep_motion
        random.shuffle(words)
        return random.choice((", ", " ")).join(words)
    if len(spec.things) == 2:
        things = " and ".join(_single(thing, random, True) for thing in spec.things)
    elif several:
        things = _bare(spec.things[0], spec.count, random, keep_colour, random.choice(ADJECTIVES))
    else:
        things = _single(spec.things[0], random, keep_colour)
    scene = random.choice(SCENE_PHRASES[spec.scene.name]) if keep_scene else ""
    verb = "are" if several else "is"
    opening = random.choice(OPENINGS)
    orders = [f"{opening}{things} {motion} {scene}", f"{opening}{things} {scene}"]
    if motion and scene:
        orders = [
            f"{opening}{things} {motion} {scene}",
            f"{opening}{things} {motion} {scene}",
            f"{things} {verb} {motion} {scene}",
            f"{opening}{things} {scene}, {motion}",
            f"{scene}, {things} {verb} {motion}",
            f"{scene} {things} {motion}",
        ]
    elif motion:
        orders = [f"{opening}{things} {motion}", f"{things} {verb} {motion}"]
    return " ".join(random.choice(orders).split())


def _bare(thing: Thing, count: int, random: Random, keep_colour: bool, adjective: str = "") -> str:
    """Without an article: "red fish", "two red fish"."""
    number = random.choice(COUNT_WORDS[count]) + " " if count > 1 else ""
    colour = random.choice(COLOUR_WORDS[thing.colour]) + " " if keep_colour else ""
    return f"{number}{adjective}{colour}{random.choice(NOUNS[thing.object])[count > 1]}"


def _single(thing: Thing, random: Random, keep_colour: bool) -> str:
    phrase = _bare(thing, 1, random, keep_colour, random.choice(ADJECTIVES))
    article = random.choice(("a", "a", "a", "the", "one"))
    return f"{'an' if article == 'a' and phrase[0] in 'aeiou' else article} {phrase}"


def all_words() -> list[str]:
    """Every word that a caption can contain, sorted: the vocabulary of the demo tokenizer."""
    phrases = [form for forms in NOUNS.values() for pair in forms for form in pair]
    for table in (COLOUR_WORDS, SCENE_NOUNS, PREPOSITIONS, FIXED_PHRASES, MOTION_WORDS):
        phrases += [phrase for options in table.values() for phrase in options]
    phrases += [*OPENINGS, *ADJECTIVES, *ADVERBS, *(w for options in COUNT_WORDS.values() for w in options)]
    phrases += [*OBJECTS, *COLOURS, *SCENES, *MOTIONS, "a an the one is are and any"]
    return sorted({word for phrase in phrases for word in phrase.split()})
