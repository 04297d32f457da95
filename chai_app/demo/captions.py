"""Captions for clips, in varied wording: synonyms, word orders, with and without colour, scene and motion."""

from __future__ import annotations

from random import Random

from .world import COLOURS, MOTIONS, OBJECTS, SCENES, ClipSpec, Thing

NOUNS: dict[str, tuple[tuple[str, str], ...]] = {  # (one, several)
    "ball": (("ball", "balls"), ("beach ball", "beach balls")),
    "balloon": (("balloon", "balloons"), ("party balloon", "party balloons")),
    "car": (("car", "cars"), ("toy car", "toy cars"), ("automobile", "automobiles")),
    "boat": (("boat", "boats"), ("sailboat", "sailboats"), ("sailing boat", "sailing boats")),
    "fish": (("fish", "fish"), ("goldfish", "goldfish")),
    "star": (("star", "stars"),),
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
SCENE_PHRASES: dict[str, tuple[str, ...]] = {
    "desert": ("in the desert", "in a desert", "in a sandy desert", "over the sand dunes", "among sand dunes"),
    "ocean": ("on the ocean", "over the ocean", "at sea", "over the sea", "on the water"),
    "forest": ("in the forest", "in a forest", "in the woods", "among the trees", "in a pine forest"),
    "city": ("in the city", "in a city", "in a city at dusk", "on a city street", "in the town"),
    "moon": ("on the moon", "in space", "in outer space", "on the surface of the moon"),
    "reef": ("in a coral reef", "over a coral reef", "under water", "underwater", "under the sea"),
}
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


def caption(spec: ClipSpec, random: Random, complete: bool = False) -> str:
    """Describe a clip as a person might.

    Args:
        complete: name object, colour, scene, motion and count always; otherwise each of colour, scene and motion is
            left out of about one caption in eight.
    """
    keep_colour, keep_scene, keep_motion = (complete or random.random() > 0.12 for _ in range(3))
    several = spec.count > 1
    if len(spec.things) == 2:
        things = " and ".join(_single(thing, random, True) for thing in spec.things)
    elif several:
        thing = spec.things[0]
        noun = random.choice(NOUNS[thing.object])[1]
        colour = random.choice(COLOUR_WORDS[thing.colour]) + " " if keep_colour else ""
        things = f"{random.choice(COUNT_WORDS[spec.count])} {random.choice(ADJECTIVES)}{colour}{noun}"
    else:
        things = _single(spec.things[0], random, keep_colour)
    motion = random.choice(ADVERBS) + random.choice(MOTION_WORDS[spec.motion]) if keep_motion else ""
    scene = random.choice(SCENE_PHRASES[spec.scene]) if keep_scene else ""
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


def _single(thing: Thing, random: Random, keep_colour: bool) -> str:
    noun = random.choice(NOUNS[thing.object])[0]
    colour = random.choice(COLOUR_WORDS[thing.colour]) + " " if keep_colour else ""
    phrase = random.choice(ADJECTIVES) + colour + noun
    article = random.choice(("a", "a", "a", "the", "one"))
    return f"{'an' if article == 'a' and phrase[0] in 'aeiou' else article} {phrase}"


def all_words() -> list[str]:
    """Every word that a caption can contain, sorted: the vocabulary of the demo tokenizer."""
    phrases = [form for forms in NOUNS.values() for pair in forms for form in pair]
    for table in (COLOUR_WORDS, SCENE_PHRASES, MOTION_WORDS):
        phrases += [phrase for options in table.values() for phrase in options]
    phrases += [*OPENINGS, *ADJECTIVES, *ADVERBS, *(w for options in COUNT_WORDS.values() for w in options)]
    phrases += [*OBJECTS, *COLOURS, *SCENES, *MOTIONS, "a an the one is are and any"]
    return sorted({word for phrase in phrases for word in phrase.split()})
