"""What each word does in its sentence, from its tag and its neighbours.

A tag is a guess about one word. Captions are short and often no whole sentences, and there taggers err in known ways:
a verb for a noun ("a teddy bear"), a noun for a verb ("a dog jumps"), and all ways with words in -ing. The neighbours
settle most of it: what follows an article is no verb, what follows a noun in the singular is hardly a bare adjective.
"""

from __future__ import annotations

from typing import Literal

from .nouns import (
    is_adjective_first,
    is_gerund,
    is_plural,
    is_seen,
    is_third_person,
    is_verb,
    is_verb_first,
    kind_of,
    longest_compound,
    singular,
)
from .numerals import number_of
from .words import (
    AUXILIARIES,
    BE_OR_HAVE,
    BREAK,
    CONJUNCTIONS,
    DETERMINERS,
    FRAMING,
    OWNERS,
    PERHAPS_FRAMING,
    PLACE_ADVERBS,
    POLITE,
    POSSESSIVE,
    PREPOSITIONS,
    PRONOUNS,
    SINGULAR_DETERMINERS,
)

Role = Literal[
    "determiner", "number", "adjective", "noun", "verb", "adverb", "preposition", "conjunction", "pronoun",
    "possessive", "place adverb", "comma", "break",
]  # fmt: skip
# First guesses that the neighbours decide: a word in -ing, a participle of the past, a bare verb.
Guess = Role | Literal["ing", "participle", "bare verb"]

_REACH = 8  # words to look before or behind; prompts can be long, phrases are short
_NOMINAL = ("noun", "adjective", "ing", "participle", "bare verb")
_NOMINAL_LISTS = [[guess] for guess in _NOMINAL]
_OPENING = ("determiner", "number", "adjective", "possessive")
_OBJECT_STARTS = ("noun", "adjective", "determiner", "pronoun", "number")
_ADJECTIVE_ENDINGS = ("ic", "ical", "esque", "-like", "ated", "less", "ful", "ous")


def find_roles(words: list[str], tags: list[str]) -> list[Role]:
    """The role of each word.

    Args:
        words: lower-case, as `split_words` parts them.
        tags: one Penn Treebank tag for each.
    """
    guesses = [_first_guess(word, tag) for word, tag in zip(words, tags, strict=True)]
    roles: list[Role] = []
    for i in range(len(words)):
        roles.append(_Place(words, guesses, roles, i).role())
    return roles


def _first_guess(word: str, tag: str) -> Guess:
    if word in (BREAK, ",") or word in POLITE:
        return "comma" if word == "," else "break"
    if word == POSSESSIVE:
        return "possessive"
    closed: tuple[tuple[frozenset[str], Guess], ...] = (
        (PLACE_ADVERBS, "place adverb"),
        (DETERMINERS - {"that"}, "determiner"),
        (PRONOUNS, "pronoun"),
        (PREPOSITIONS, "preposition"),
        (CONJUNCTIONS, "conjunction"),
        (BE_OR_HAVE | AUXILIARIES, "verb"),
    )
    for members, role in closed:
        if word in members:
            return role
    if number_of(word) is not None:
        return "number"
    if word[0].isdigit():
        return "adjective"
    return _open_guess(word, tag)


def _open_guess(word: str, tag: str) -> Guess:
    kind = kind_of(word)
    if word in FRAMING:
        return "noun"  # studio lighting
    if word.endswith("ing") and (tag == "VBG" or is_gerund(word)):
        return "ing"
    if tag in ("VBN", "VBD") or (word.endswith("ed") and "-" in word):
        return "participle"
    if tag in ("VB", "VBP", "VBZ", "VBG"):
        return "bare verb"
    if tag == "JJ" or (kind is None and word.endswith(_ADJECTIVE_ENDINGS)):
        return "adjective"
    if tag in ("JJR", "JJS", "RBR", "RBS") or (tag.startswith("RB") and not is_seen(word)):
        return "adverb"
    return "noun"


class _Place:
    """One word among its neighbours: the roles before it are settled, those behind it are guesses."""

    def __init__(self, words: list[str], guesses: list[Guess], roles: list[Role], i: int) -> None:
        self.words, self.guesses, self.roles, self.i = words, guesses, roles, i
        self.word, self.guess = words[i], guesses[i]
        self.before: Guess = roles[i - 1] if i else "break"
        self.after: Guess = guesses[i + 1] if i + 1 < len(words) else "break"

    def role(self) -> Role:
        if self.guess == "ing":
            return self._ing()
        if self.guess == "participle":
            return self._participle()
        if self.guess == "bare verb":
            return self._bare_verb()
        if self.guess == "adjective":
            return self._adjective()
        if self.guess == "noun":
            return self._noun()
        is_last = self.is_doing_next or not self.is_nominal_next
        if self.guess == "adverb" and self.is_in_phrase and is_last and not self.word.endswith("ly"):
            return "noun"
        return self.guess

    @property
    def is_in_phrase(self) -> bool:
        """Whether an article stands before, and no more than adjectives between."""
        before = (role for role in self.roles[: -_REACH - 1 : -1] if role not in ("adjective", "number"))
        return next(before, None) == "determiner"

    @property
    def is_nominal_next(self) -> bool:
        return self.after in _NOMINAL

    @property
    def is_doing_next(self) -> bool:
        """Whether a word in -ing follows that no noun belongs to: a cat sleeping in a box."""
        return self.after == "ing" and self.guesses[self.i + 2 : self.i + 3] not in _NOMINAL_LISTS

    @property
    def follows_verb(self) -> bool:
        """Whether a form of be or have, "to" or the like governs this word."""
        before = zip(self.words[max(0, self.i - _REACH) : self.i][::-1], self.roles[: -_REACH - 1 : -1])
        return next((word for word, role in before if role != "adverb"), "") in BE_OR_HAVE | AUXILIARIES

    @property
    def ends_compound(self) -> bool:
        return self.before == "noun" and longest_compound(self.words[max(0, self.i - 3) : self.i + 1])[0] > 1

    @property
    def begins_compound(self) -> bool:
        return self.is_nominal_next and kind_of(f"{self.word} {self.words[self.i + 1]}") is not None

    def _ing(self) -> Role:
        if self.before in _OPENING:  # a flying bird; the painting
            return "adjective" if self.after in ("noun", "adjective", "bare verb") else "noun"
        if self.follows_verb:
            return "verb"
        is_object = self.before == "noun" and self.i + 1 < len(self.words) and is_plural(self.words[self.i + 1])
        if self.begins_compound and not is_object:  # sewing machine, but aliens playing cards
            return "adjective"
        if not is_gerund(self.word) and self.after in ("preposition", "verb", "comma", "break"):
            return "noun"  # a brick building
        if self.before in ("comma", "break") and self._is_listed_compound():
            return "adjective"  # ..., vending machine, ...
        if self.before == "noun":
            return "verb"  # a boat sailing
        if self.before in ("preposition", "conjunction", "verb") and not self.is_nominal_next and is_seen(self.word):
            return "noun"  # a pile of clothing
        has_many = self.after == "noun" and is_plural(self.words[self.i + 1])
        return "adjective" if has_many and self.before in ("preposition", "break", "comma") else "verb"

    def _is_listed_compound(self) -> bool:
        return self.is_nominal_next and longest_compound(self.words[self.i : self.i + 2])[0] > 1

    def _participle(self) -> Role:
        is_second = self.before in ("comma", "conjunction") and self.roles[-2:-1] == ["adjective"]
        if self.before in _OPENING or (is_second and self.is_nominal_next):  # a painted wall; a thick, painted wall
            return "adjective"
        if self.follows_verb and not self.is_nominal_next:
            return "verb"
        if self.before == "noun" and is_seen(self.word) and self.after in ("comma", "break", "verb"):
            return "noun"  # a tea set
        return "adjective" if self.after == "noun" else "verb"  # a snow covered hill; a wall painted red

    def _bare_verb(self) -> Role:
        if self.before in _OPENING:
            return "noun"
        is_second = self.before == "conjunction" and self.i > 1 and self.roles[self.i - 2] == "verb"  # twist and bend
        if self.follows_verb or self.before == "pronoun" or is_second:
            return "verb"
        if self.before == "adverb" and self.i > 1 and self.roles[self.i - 2] == "noun":
            return "verb"  # a camera slowly pans
        if self._agrees():
            return "verb"
        if self.before == "noun":  # a teddy bear; a verb would have an s here
            is_no_verb = not is_plural(self.words[self.i - 1]) and not self.word.endswith("s")
            return "noun" if self.ends_compound or (is_no_verb and kind_of(self.word) != "action") else "verb"
        return "noun" if is_seen(self.word) and self.after not in ("determiner", "pronoun") else "verb"

    def _adjective(self) -> Role:
        is_object_next = self.guesses[self.i + 2 : self.i + 3] in (["determiner"], ["pronoun"])
        is_thing = is_object_next or (is_seen(self.word) and not is_adjective_first(self.word))
        if self.is_in_phrase and self.is_doing_next and is_thing:
            return "noun"  # a t-rex chasing a jeep
        if self.is_nominal_next and self.before != "noun":
            return "adjective"
        if self.before == "noun":
            if self.is_nominal_next:
                return "adjective"
            return "noun" if is_seen(self.word) else "adverb"  # a traffic light; a boat adrift
        if self.is_in_phrase and self.after not in ("conjunction", "comma", "number") and kind_of(self.word) is None:
            return "noun"  # a friendly t-rex: nothing else can be what the article is for
        if self.follows_verb or not is_seen(self.word) or self._shares_a_noun():
            return "adjective"
        if is_adjective_first(self.word) and self.before != "determiner":
            return "adjective"
        return "noun"  # a remote; an orange

    def _shares_a_noun(self) -> bool:
        """Whether the word is one of several adjectives: red and yellow balls, a big, orange ball."""
        if self.after not in ("conjunction", "comma"):
            return False
        rest = self.guesses[self.i + 1 : self.i + _REACH]
        joint = next(
            (i for i, guess in enumerate(rest) if guess not in ("conjunction", "comma", "adjective")), len(rest)
        )
        end = next((i for i in range(joint, len(rest)) if rest[i] != "noun"), len(rest))
        is_described = "adjective" in rest[:joint] or (self.after == "comma" and is_adjective_first(self.word))
        return is_described and end > joint and self.words[self.i + end] not in FRAMING

    def _noun(self) -> Role:
        if self.word in FRAMING:
            return "noun"
        if self.word == "home" and self.before == "verb":
            return "adverb"
        if is_adjective_first(self.word) and self.after == "noun":
            return "adjective"
        is_after_to = self.i > 0 and self.words[self.i - 1] == "to"
        if is_after_to and kind_of(self.word) == "action" and self.after in _OBJECT_STARTS:
            return "verb"  # to drink water
        is_before_object = self.after in ("determiner", "pronoun")
        if self.before == "noun" and self.word.endswith("ing") and is_before_object:
            return "verb"  # a woman painting a fence
        if self.before in ("comma", "conjunction") and is_before_object and is_third_person(self.word):
            return "verb"  # slices a melon, tosses it
        if self.before == "pronoun" and is_third_person(self.word):
            return "verb"  # he drives a tractor
        if self.before == "adverb" and self.i > 1 and self.roles[self.i - 2] == "noun":
            return "noun" if self.is_nominal_next else "verb"  # a camera slowly pans
        if self._agrees():
            return "verb"
        if self.before != "noun" or self.after in ("noun", "verb", "bare verb") or self.ends_compound:
            return "noun"
        # A dog jumps, dogs jump: either the noun has the plural or the verb has an s.
        is_verb = is_plural(self.word) != is_plural(self.words[self.i - 1])
        return "verb" if is_verb and (is_before_object or kind_of(self.word) == "action") else "noun"

    def _agrees(self) -> bool:
        """Whether the word is the verb of the noun before it, by their endings: a fountain sprays, children ride."""
        if self.before != "noun" or self.ends_compound:
            return False
        noun, is_many = self.words[self.i - 1], is_plural(self.words[self.i - 1])
        has_object = self.after in ("determiner", "pronoun", "number")
        is_free = self.after in ("preposition", "adverb", "place adverb", "comma", "break", "conjunction")
        if is_third_person(self.word) and singular(self.word) != self.word:
            if noun in FRAMING | PERHAPS_FRAMING and not is_many:
                return True  # the camera dives
            is_one = self._determiner() in SINGULAR_DETERMINERS - {"the", *OWNERS}
            if (is_one and not is_many) or (is_many and noun != self.word):
                return True  # a fountain sprays: were it one noun, it would be several of "a"
            is_tag = self.after in ("comma", "break") and self.roles[-2:-1] in ([], ["comma"])  # ..., brass gears, ...
            return has_object or (kind_of(self.word) == "action" if is_tag else is_verb_first(self.word))
        if is_verb(self.word) and is_many and not is_plural(self.word):
            return has_object or is_verb_first(self.word) or (not is_free and self.after != "verb")
        return False

    def _determiner(self) -> str:
        """The article of the noun phrase that ends before this word, or ""."""
        for i in range(self.i - 1, max(-1, self.i - _REACH), -1):
            if self.roles[i] == "determiner":
                return self.words[i]
            if self.roles[i] not in ("noun", "adjective", "number", "adverb"):
                break
        return ""
