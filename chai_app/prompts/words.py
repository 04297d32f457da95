"""The words of a prompt, and the small words of English: those of which there are only so many."""

from __future__ import annotations

import re

from .nouns import is_seen

_WORD = re.compile(
    r"\d+(?:[.,:]\d+)*[^\W_]*(?:-[^\W_]+)*"  # 2  1,000  4k  3d  5-year-old
    r"|[^\W\d_][^\W_]*(?:[-'’][^\W_]+)*"  # ball  close-up  jack-o'-lantern
    r"|\S"  # everything else parts what stands around it
)
_READABLE = re.compile(r"[0-9A-Za-z\u00c0-\u024f.,:'’-]{1,40}")
_POSSESSIVE = re.compile(r"(.+)['’]s", re.IGNORECASE)
_NOT = re.compile(r"(ca|wo|sha|.+?)n['’]t|cannot", re.IGNORECASE)
_SHORT = re.compile(r"(i|you|he|she|it|we|they|there|that|who)['’](?:d|ll|ve|re|m)", re.IGNORECASE)
_WHOLE = {"ca": "can", "wo": "will", "sha": "shall", "ai": "is"}
_COUNTED = re.compile(r"(\d{1,3})([A-Za-z]{3,})")  # 2boys

POSSESSIVE = "'s"
BREAK = "."


def split_words(prompt: str) -> list[str]:
    """Words as written; "'s" and the "not" of "isn't" stand for themselves, what is written several times in a row
    stands there once, and whatever is no English word becomes a break."""
    words: list[str] = []
    for word in _WORD.findall(prompt):
        match = _POSSESSIVE.fullmatch(word)
        stem = match[1] if match else word.replace("’", "'")
        is_letter = len(stem) == 1 and stem.isalpha() and stem.lower() not in ("a", "i")
        negated, counted = _NOT.fullmatch(word), _COUNTED.fullmatch(word)
        if word in (",", "，", "、"):
            words.append(",")
        elif negated is not None:
            verb = negated[1] or "can"
            words += [_WHOLE.get(verb.lower(), verb), "not"]
        elif (short := _SHORT.fullmatch(word)) is not None:
            words += [short[1], "will"]
        elif counted is not None and is_seen(counted[2].lower()):
            words += [counted[1], counted[2]]
        elif is_letter or not word[0].isalnum() or not _READABLE.fullmatch(word):
            words.append(BREAK)
        else:
            words += [stem, POSSESSIVE] if match else [stem]
    lower = [word.lower() for word in words]
    return [word for i, word in enumerate(words) if not i or lower[i] != lower[i - 1] or not word.isalpha()]


def _set(words: str) -> frozenset[str]:
    return frozenset(words.split())


SINGULAR_DETERMINERS = _set("a an the this that each every another either neither my your his her its our their whose")
OTHER_DETERMINERS = _set(
    "these those some any all both many several few most more various multiple numerous countless other such much "
    "enough certain different half only"
)
VAGUE_NUMBERS = _set("some many several few")  # several hundred soldiers
DETERMINERS = SINGULAR_DETERMINERS | OTHER_DETERMINERS | {"no"}
PRONOUNS = _set(
    "i you he she it we they me him us them himself herself itself themselves myself yourself ourselves someone "
    "somebody something everyone everybody everything anyone anything nothing nobody who whom which what that there "
    "here where when why how mine hers theirs ours else"
)
CONJUNCTIONS = _set("and or but nor plus while as because if though although whereas whilst then so than & until")
BE_OR_HAVE = _set("is are was were be been being am has have had having gets get getting got keeps keep keeping")
AUXILIARIES = _set("do does did will would can could shall should may might must to not let lets")

# What one can be in, on or under is a place to it: "under water", "on the moon".
CONTAINING = _set(
    "in on at into onto inside within under underneath beneath below over above across through throughout along "
    "among amongst amid amidst between atop upon aboard down up off out around"
)
BELOW = _set("under underneath beneath below")
AMONG = _set("in into inside within among amongst amid amidst between through throughout across over under")
PREPOSITIONS = CONTAINING | _set(
    "near by beside besides behind before toward towards against from to beyond opposite outside alongside after past "
    "with without of for about like featuring including per during since despite except via"
)
PLACE_ADVERBS = _set(
    "underwater undersea underground downtown uptown offshore ashore backstage upstairs downstairs "
    "overseas midair mid-air"
)
# Words for a part of what follows their "of": "on the edge of a cliff", "to the left of a chair".
SIDES = _set("left right top bottom front back side rear sides next foreground background north south east west")
INSIDES = _set("middle center centre edge edges surface corner end midst heart depths interior inside outskirts")
RELATIONS = SIDES | INSIDES | _set("distance rest direction foot base tip outside way")

QUANTITIES = _set(
    "lot lots plenty kind kinds type types sort sorts number numbers bit amount amounts handful variety range series "
    "dozens hundreds thousands millions tons multitude mix plethora"
)
PAIRED = _set(  # one thing in two halves: a pair of scissors is one
    "scissors shears pliers tweezers tongs jeans pants trousers shorts leggings tights pajamas pyjamas glasses "
    "sunglasses spectacles goggles binoculars headphones earphones handcuffs"
)
COUNTED_GROUPS = {"pair": 2, "couple": 2, "duo": 2, "twosome": 2, "trio": 3, "threesome": 3, "quartet": 4, "quintet": 5}

# How a picture is taken, made or rated: no part of what it shows. WordNet has other senses for these, or none at all.
FRAMING = _set(
    "video videos vid vids footage clip clips shot shots scene scenes film cinematography animation animations anime "
    "manga cgi vfx hd uhd hdr fps imax gopro pov vr bokeh blur macro vignetting lut render renders rendering "
    "renderings unreal octane blender artstation pixar ghibli disney cyberpunk steampunk vaporwave synthwave close-up "
    "close-ups closeup closeups timelapse time-lapse hyperlapse slow-motion slowmo b-roll panning zoom tilt view "
    "views viewpoint viewpoints perspective angle angles style styles look looks effect effects aesthetic aesthetics "
    "realism photorealism hyperrealism surrealism impressionism concept masterpiece mood vibe vibes theme themes "
    "quality detail details texture textures lighting background backgrounds foreground backdrop tableau scenery "
    "atmosphere ambience viewer viewers iso fpv flythrough fly-through flyover fly-over walkthrough highres absurdres "
    "lowres solo outdoors indoors claymation stop-motion low-poly"
)
FRAMING_NAMES = _set("unreal octane artstation imax")  # whatever noun follows: unreal engine
# These are a part of it where they have an article of their own: "a model walking", but "model of a house".
PERHAPS_FRAMING = _set(
    "camera cameras cam lens lenses frame frames model models art artwork artworks wallpaper grain pan dolly body"
)
# What stands behind a "not" that negates nothing (not only a dog; not far from a house), what says itself that
# something is not there, and verbs whose object is not there where they are negated, even as "the" or "his" (not
# wearing the hat).
POSITIVE_NEXT = _set("only just merely simply to")
DEGREES = _set("far close long near even quite very so too")
GONE = _set("missing absent nowhere invisible gone")
SHOWN = _set("visible present shown included allowed there")
HAVING = _set(
    "wear wearing worn wears hold holding held holds carry carrying carried have has having had own show showing shown "
    "include including contain containing feature use using used add adding draw depict see seen"
)
OWNERS = _set("my your his her its our their whose")
DEFINITE = OWNERS | {"the", "this", "that", "these", "those"}

POLITE = _set("please pls plz thanks thank thx kindly hey hi hello lol ok okay wow")
UNSEEN = _set("wind breeze air")  # weather that no picture shows
LIGHT = _set("light glow")  # and what a picture shows everywhere, where it has no article
TIMES_OF_DAY = _set("sunset sunrise dawn dusk daybreak nightfall twilight")  # and the light in the sky
CUTS = _set("cut cuts fade fades switch switches transition transitions")  # ... to the next picture
MAKING = _set(
    "painted drawn directed inspired illustrated designed photographed filmed shot animated composed art artwork "
    "painting photo photograph photography film illustration animation cinematography"
)
TAKING = _set("shot filmed captured recorded photographed taken rendered")  # ... on a device
CAMERA_MOVES = _set("pan pans zoom zooms tilt tilts dolly rack racking orbit orbits truck crane pedestal roll arc")
DIRECTIONS = _set(
    "in out left right up down around forward forwards backward backwards back upward upwards downward downwards "
    "sideways focus closer away clockwise counterclockwise"
)
