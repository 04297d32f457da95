"""Whether a sentence is English, told by its small words: each language has its own, and no sentence does without."""

from __future__ import annotations

import re
from functools import cache

from .nouns import kind_of
from .words import AUXILIARIES, BE_OR_HAVE, CONJUNCTIONS, DETERMINERS, PREPOSITIONS, PRONOUNS

# The articles, prepositions and pronouns of each. Those that are English words as well tell nothing either way.
_SMALL_WORDS = {
    "German": (
        "der die das den dem des ein eine einen einem einer eines und oder mit auf im am zum zur vom von für über "
        "unter neben zwischen durch nicht kein keine ist sind wird sich sein seine ihr ihre während aus beim"
    ),
    "French": (
        "le la les l un une des du de et ou avec dans sur sous au aux en par pour qui que est sont son sa ses "
        "leur pas ne d une chez vers entre pendant"
    ),
    "Spanish": (
        "en el la los las un una unos unas del al de y o con en sobre bajo por para que es son está su sus no sin "
        "entre hacia mientras durante junto"
    ),
    "Italian": (
        "il lo la i gli le un uno una di del della dei delle e o con in nel nella sul sulla al alla da dal per "
        "che è sono suo sua non tra fra mentre"
    ),
    "Portuguese": (
        "o os as um uma uns umas do da dos das no na nos nas de e ou com em ao à pelo pela por para que é são seu "
        "sua não sem entre enquanto durante"
    ),
    "Dutch": (
        "de het een en of met op in aan van voor onder naast tussen door niet geen is zijn wordt haar die dat "
        "naar uit bij tijdens terwijl"
    ),
    "Swedish": ("en ett och eller med på i av för under över mellan som är inte sin sitt från till vid den det"),
    "Polish": ("i w na z do po od za nad pod przez jest są się nie oraz który która przy"),
    "Turkish": ("bir ve ile için bu da de üzerinde altında içinde olan"),
}
_ENGLISH = DETERMINERS | PREPOSITIONS | PRONOUNS | CONJUNCTIONS | BE_OR_HAVE | AUXILIARIES
_WORD = re.compile(r"[^\W\d_]+")
_OTHER_LETTER = re.compile(r"[^\W\d_\x00-\u024f\u1e00-\u1eff]")
MOST_FOREIGN = 0.5  # of the letters


@cache
def _languages_of() -> dict[str, tuple[str, ...]]:
    languages: dict[str, tuple[str, ...]] = {}
    for language, words in _SMALL_WORDS.items():
        for word in set(words.split()):
            languages[word] = (*languages.get(word, ()), language)
    return languages


def foreign_language(sentence: str) -> str | None:
    """The language of a sentence that is not English ("Spanish", "French or Spanish"), "another script" where most
    letters are not Latin; None if it is English, or too short to tell."""
    letters = sum(map(str.isalpha, sentence))
    if letters and len(_OTHER_LETTER.findall(sentence)) > MOST_FOREIGN * letters:
        return "another script"
    words = list(dict.fromkeys(_WORD.findall(sentence)))  # la la land is one small word
    votes: dict[str, int] = {}
    foreign = english = unknown = 0
    for i, word in enumerate(words):
        lower = word.lower()
        languages = _languages_of().get(lower, ()) if word.islower() or i == 0 else ()
        for language in languages:
            votes[language] = votes.get(language, 0) + 1
        foreign += bool(languages) and lower not in _ENGLISH
        english += not languages and lower in _ENGLISH
        unknown += not languages and lower not in _ENGLISH and kind_of(lower) is None
    has_enough = foreign >= 2 or (foreign == 1 and not english and unknown >= 2)
    if not has_enough or foreign <= english:
        return None
    return " or ".join(language for language, count in votes.items() if count == max(votes.values()))
