"""Writes nouns.txt: what WordNet knows about English nouns, as far as the reading of prompts needs it.

What tells a place from a thing when no preposition does is knowledge of the world, and WordNet's noun hierarchy has
it: a fountain is a structure, a valley a geological formation, a lamp neither. This script walks up from every noun to
the nearest of the roots below, and writes down the words whose class could not be guessed. Run again, it writes the
same file:

    apt-get download wordnet-base && dpkg-deb -x wordnet-base*.deb wn
    python -m chai_app.prompts.derive_nouns wn/usr/share/wordnet

A word has several senses, and WordNet counts how often each was met in running text. Each sense votes with its count
plus 1 / its rank (many words were never met); what merely bears the word as a name has no vote (the Red River).
The classes:

- abstract: hardly a vote goes to what a camera can see, or the usual sense is a time ("style", "evening", "spring");
  action: and it is a verb too ("dance").
- place: of the votes for what is seen, most go to places ("bedroom", "valley"); building: and of those, most to what
  stands in a place itself ("lighthouse", "viaduct").
- either: a fair share goes to places ("toilet", the fixture and the room; "water", the liquid and the lake).
- medium: weather, soil, liquids, waves: a thing, and a place for what is in it ("snow", "mud").
- planet: a thing in the sky, and a place for what is on it ("moon").
- plant: a thing, and a place where there are many ("among the trees").
- group: a word for many of what follows ("herd").
- picture: a word for what shows something else ("painting", "photograph").
- thing: all the others. Listed where the word is usual, or is a verb or an adjective too, since taggers mistake those
  ("bear", "orange"), and compounds that are not what their last word says ("hot dog").

Other compounds are listed where they are places and their last word is not ("golf course"), or begin in -ing, which
would be a verb elsewhere ("vending machine"). More lists of words serve the reading: irregular plurals; singulars that
look like plurals; nouns that are adjectives in the first place ("cold", "small"); words in -ing that are nouns more
than verbs, because they come from no verb ("ceiling") or are often met as a thing or place ("building"); verbs, and
those of them that are nouns less often ("cut"); parts of a body; words for many animals ("school").
"""

from __future__ import annotations

import re
import sys
from collections import defaultdict
from functools import cache
from pathlib import Path

OUTPUT = Path(__file__).parent / "nouns.txt"
LICENSE = "WORDNET-LICENSE.txt"

# Senses as lemma#number, numbered as WordNet 3.0 numbers them.
ROOTS = {
    "place": (
        "location#1 room#1 facility#1 way#6 horizontal_surface#1 geological_formation#1 body_of_water#1 land#2 "
        "land#4 vegetation#1 sky#1 outer_space#1 railroad_track#1 excavation#3 platform#1 rooftop#1 roof#1"
    ),
    # Places that one sees from outside, too; a booth is an enclosure to WordNet, and that an area.
    "building": "structure#1 ride#2 booth#2 stall#3",
    "medium": "atmospheric_phenomenon#1 cloud#1 soil#2 earth#2 ice#1 gramineous_plant#1 liquid#3 wave#1",
    "planet": "celestial_body#1",
    "plant": "plant#2",
    "picture": "picture#1 graphic_art#1 photograph#1 movie#1",
    # The last two lines: what WordNet has among structures and ways, though nobody is ever inside it or on it, and
    # what it has among events, signals and beliefs, though a camera can see it.
    "thing": (
        "physical_entity#1 food#1 "
        "supporting_structure#1 structural_member#1 obstruction#1 signboard#1 conduit#1 "
        "fire#1 explosion#1 visual_signal#1 spiritual_being#1 imaginary_being#1 "
        "ghost#1 sign#2 natural_phenomenon#1"
    ),
    "group": "group#1 organization#1",
    "shape": "shape#2",
    "time": "time_period#1",
    "abstract": (
        "abstraction#6 extremity#4 position#1 side#1 direction#1 line#11 military_position#1 energy#1 process#6"
    ),
}
ORDER = ("place", "building", "medium", "planet", "plant", "picture", "thing", "group", "shape", "time", "abstract")
FAINT = ("group", "shape", "time", "abstract")  # these do not count where the word has a sense that is seen as such
NAMED = ("place", "building", "either", "planet")  # names are listed of these: cities, planets
NEVER_RARE = (*NAMED, "medium", "plant")  # and of these words that are seldom met
MIN_SEEN, MIN_FIRM, MIN_PLACE, MIN_EITHER, MIN_TOO = 1 / 7, 0.05, 0.65, 0.3, 0.2  # shares of the votes
MIN_MET = 10
RANK_VOTE = 3


class WordNet:
    """The nouns of a WordNet 3.0 database folder; wndb(5WN) tells the format of its files."""

    def __init__(self, folder: Path) -> None:
        self.above: dict[str, list[str]] = {}
        self.is_name: dict[str, bool] = {}
        self.capitalised: set[tuple[str, str]] = set()
        for line in _records(folder / "data.noun"):
            fields = line.split(" | ")[0].split()
            end_of_words = 4 + 2 * int(fields[3], 16)
            self.capitalised |= {(word.lower(), fields[0]) for word in fields[4:end_of_words:2] if word != word.lower()}
            pointers = list(zip(fields[end_of_words + 1 :: 4], fields[end_of_words + 2 :: 4]))
            self.above[fields[0]] = [target for symbol, target in pointers if symbol in ("@", "@i")]
            self.is_name[fields[0]] = any(symbol == "@i" for symbol, _ in pointers)
        lines = [line.split() for line in _records(folder / "index.noun")]
        self.senses = {fields[0]: fields[-int(fields[2]) :] for fields in lines}
        self.counts: dict[str, dict[int, int]] = defaultdict(dict)
        self.adjective_counts: dict[str, int] = defaultdict(int)
        self.verb_counts: dict[str, int] = defaultdict(int)
        for line in (folder / "cntlist.rev").read_text(encoding="latin-1").splitlines():
            key, number, count = line.split()
            lemma, position = key.split("%")
            if position.startswith("1:"):
                self.counts[lemma][int(number)] = int(count)
            elif position.startswith(("3:", "5:")):
                self.adjective_counts[lemma] += int(count)
            elif position.startswith("2:"):
                self.verb_counts[lemma] += int(count)
        self.verbs = {line.split()[0] for line in _records(folder / "index.verb")}
        self.adjectives = {line.split()[0] for line in _records(folder / "index.adj")}
        self.irregular = dict(line.split()[:2] for line in _records(folder / "noun.exc"))

    def sense(self, name: str) -> str:
        """The synset called lemma#number."""
        lemma, number = name.split("#")
        return self.senses[lemma][int(number) - 1]

    def votes(self, lemma: str) -> list[tuple[str, float]]:
        counted = self.counts.get(lemma, {})
        return [(synset, counted.get(i, 0) + RANK_VOTE / i) for i, synset in enumerate(self.senses[lemma], start=1)]

    def usual_sense(self, lemma: str) -> str:
        return max(self.votes(lemma), key=lambda vote: vote[1])[0]

    def count(self, lemma: str) -> int:
        """How often the noun was met; -1 if there is no such noun, 0 if it was never met."""
        return sum(self.counts.get(lemma, {}).values()) if lemma in self.senses else -1

    def is_adjective_first(self, lemma: str) -> bool:
        return lemma in self.adjectives and self.adjective_counts.get(lemma, 0) >= max(self.count(lemma), 0)

    def is_common(self, lemma: str) -> bool:
        """Whether the word was met in running text or has several senses, and is written without a capital."""
        is_known = lemma in self.counts or len(self.senses[lemma]) > 1
        return is_known and (lemma, self.usual_sense(lemma)) not in self.capitalised

    def is_a(self, synset: str, target: str) -> bool:
        return synset == target or any(self.is_a(above, target) for above in self.above[synset])


def _records(path: Path) -> list[str]:
    lines = path.read_text(encoding="latin-1").splitlines()
    return [line for line in lines if not line.startswith("  ")]  # the licence stands at the top, indented


class Classes:
    """Gives lemmas their class."""

    def __init__(self, wordnet: WordNet) -> None:
        self.wordnet = wordnet
        self._roots = {wordnet.sense(name): kind for kind, names in ROOTS.items() for name in names.split()}
        self._person, self._food = wordnet.sense("person#1"), wordnet.sense("food#1")
        self._clothing = wordnet.sense("clothing#1")
        self.of_synset = cache(self._of_synset)
        self.of = cache(self._of_lemma)

    def _of_synset(self, synset: str) -> str:
        if synset in self._roots:
            return self._roots[synset]
        return min((self.of_synset(above) for above in self.wordnet.above[synset]), key=ORDER.index, default="abstract")

    def _of_lemma(self, lemma: str) -> str:
        shares = dict.fromkeys(ORDER, 0.0)
        senses = self.wordnet.senses[lemma]
        is_name = self.wordnet.is_name[self.wordnet.usual_sense(lemma)]
        for synset, vote in self.wordnet.votes(lemma):
            if is_name or not self.wordnet.is_name[synset]:
                shares[self.of_synset(synset)] += vote
        total = sum(shares.values())
        unseen = shares["abstract"] + shares["time"]
        is_time = self.of_synset(self.wordnet.usual_sense(lemma)) == "time" and shares["place"] < MIN_TOO * total
        if unseen > (1 - MIN_SEEN) * total or is_time:
            return "abstract" if lemma not in self.wordnet.verbs else "action"
        seen = {kind: share for kind, share in shares.items() if kind not in FAINT}
        if sum(seen.values()) <= MIN_FIRM * (total - unseen):
            return "group" if shares["group"] > shares["shape"] else "thing"
        place = (shares["place"] + shares["building"]) / sum(seen.values())
        if place >= MIN_EITHER and any(self.wordnet.is_a(synset, self._clothing) for synset in senses[:2]):
            return "thing"  # in a cape
        if place >= MIN_PLACE:
            return "place" if shares["place"] >= shares["building"] else "building"
        return "either" if place >= MIN_EITHER else max(seen, key=lambda kind: seen[kind])

    def is_what_its_last_word_says(self, compound: str) -> bool:
        """Whether the compound is a kind of one of the senses of its last word; true if that has none.

        A sense that the two share does not count: a dog is a hot dog in one of its senses, but that is short for it.
        """
        # A big fish is a person, but hardly in a prompt.
        votes = [vote for vote in self.wordnet.votes(compound) if not self.wordnet.is_a(vote[0], self._person)]
        if not votes:
            return True
        own = max(votes, key=lambda vote: vote[1])[0]
        if self.wordnet.is_adjective_first(compound.split("_")[0]) and not self.wordnet.is_a(own, self._food):
            return True  # a black cat is a marten, but in a prompt a cat; only of food are names like hot dog usual
        last = self.wordnet.senses.get(compound.rsplit("_", 1)[-1], [])
        return not last or any(self.wordnet.is_a(above, sense) for above in self.wordnet.above[own] for sense in last)


def derive(wordnet: WordNet) -> dict[str, list[str]]:
    """The words of each section of nouns.txt."""
    classes = Classes(wordnet)
    other_classes = wordnet.verbs | wordnet.adjectives
    sections: dict[str, list[str]] = defaultdict(list)
    for lemma in wordnet.senses:
        kind, is_name = classes.of(lemma), (lemma, wordnet.usual_sense(lemma)) in wordnet.capitalised
        if not re.fullmatch(r"[a-z][a-z'_-]+", lemma) or (is_name and kind not in NAMED):
            continue
        if not is_name and _is_plural(lemma, wordnet):
            continue
        if "_" in lemma:
            last = lemma.rsplit("_", 1)[-1]
            is_news = kind != (classes.of(last) if last in wordnet.senses else "thing")
            is_own_thing = kind == "thing" and (is_news or not classes.is_what_its_last_word_says(lemma))
            is_of_doing = lemma.split("_")[0].endswith("ing") and kind not in ("abstract", "action")
            if is_own_thing or is_of_doing or (is_news and kind in ("place", "building", "either")):
                sections[kind].append(lemma)
        elif kind in NEVER_RARE or wordnet.is_common(lemma) or (kind == "thing" and lemma in other_classes):
            sections[kind].append(lemma)
    sections["irregular plural"] = [
        f"{plural}={singular}"
        for plural, singular in {**_plurals_in_ies(wordnet), **wordnet.irregular}.items()
        if "_" not in plural and wordnet.count(singular) > wordnet.count(plural)
    ]
    sections["singular in s"] = [
        lemma
        for lemma in wordnet.senses
        if re.fullmatch(r"[a-z]+[^s]s", lemma) and wordnet.is_common(lemma) and not _is_plural(lemma, wordnet)
    ]
    sections["noun in ing"] = [
        lemma
        for lemma in wordnet.senses
        if re.fullmatch(r"[a-z]{2,}ing", lemma)
        and (not _is_gerund(lemma, wordnet) or _met_as_seen(lemma, wordnet, classes) >= MIN_MET)
    ]
    sections["adjective first"] = [
        lemma for lemma in wordnet.senses if lemma in wordnet.adjective_counts and wordnet.is_adjective_first(lemma)
    ]
    sections["verb"] = [verb for verb in wordnet.verbs if re.fullmatch(r"[a-z]{2,}", verb)]
    sections["verb first"] = [
        verb for verb in sections["verb"] if wordnet.verb_counts.get(verb, 0) > max(wordnet.count(verb), 0)
    ]
    herd = wordnet.sense("animal_group#1")
    sections["animal group"] = [
        lemma
        for lemma, senses in wordnet.senses.items()
        if re.fullmatch(r"[a-z]+", lemma) and any(wordnet.is_a(synset, herd) for synset in senses)
    ]
    body_part = wordnet.sense("body_part#1")
    sections["body part"] = [
        lemma
        for lemma in wordnet.senses
        if re.fullmatch(r"[a-z]+", lemma)
        and wordnet.is_common(lemma)
        and wordnet.is_a(wordnet.usual_sense(lemma), body_part)
    ]
    return {section: sorted(words) for section, words in sorted(sections.items())}


def _is_gerund(word: str, wordnet: WordNet) -> bool:
    stem = word[:-3]
    stems = (stem, f"{stem}e", stem[:-1] if stem[-1:] == stem[-2:-1] else stem)
    return any(stem in wordnet.verbs for stem in stems)


def _met_as_seen(lemma: str, wordnet: WordNet, classes: Classes) -> int:
    counted = wordnet.counts.get(lemma, {})
    synsets = enumerate(wordnet.senses[lemma], start=1)
    return sum(counted.get(i, 0) for i, synset in synsets if classes.of_synset(synset) not in FAINT)


def _plurals_in_ies(wordnet: WordNet) -> dict[str, str]:
    """Those that are not of a word in y: cookies, zombies."""
    words = [lemma for lemma in wordnet.senses if re.fullmatch(r"[a-z]{2,}ie", lemma)]
    return {f"{word}s": word for word in words if wordnet.count(word) >= wordnet.count(word[:-2] + "y")}


def _is_plural(lemma: str, wordnet: WordNet) -> bool:
    """Whether the word, though WordNet lists it, is rather the plural of another: "balls", "men"."""
    singulars = [wordnet.irregular[lemma]] if lemma in wordnet.irregular else []
    if re.fullmatch(r"[a-z]+[^s]s", lemma):
        singulars += [lemma[:-1]] + [lemma[:-2]] * lemma.endswith("es") + [lemma[:-3] + "y"] * lemma.endswith("ies")
    return any(wordnet.count(singular) >= wordnet.count(lemma) for singular in singulars)


if __name__ == "__main__":
    lines = [f"# Derived from WordNet 3.0 by derive_nouns.py; the licence is in {LICENSE}."]
    for section, words in derive(WordNet(Path(sys.argv[1]))).items():
        lines += [f"[{section}]", *(word.replace("_", " ") for word in words)]
    OUTPUT.write_text("\n".join(lines) + "\n", encoding="utf-8")
