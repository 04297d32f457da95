"""Parts of speech, from whichever library is there.

The libraries differ in how well they tag words; phrases.py makes phrases from the tags of either, so that a prompt has
much the same entities with both. spaCy's parser, and with it its own noun phrases, is therefore not run.
"""

from __future__ import annotations

import importlib.util
from functools import cache
from typing import TYPE_CHECKING, Any, Protocol

from ..process.lean_import import lean_import

if TYPE_CHECKING:
    from spacy.language import Language

_SIZES = ("_sm", "_md", "_lg", "_trf")


class Tagger(Protocol):
    """Tells parts of speech."""

    def tag(self, words: list[str]) -> list[str]:
        """The Penn Treebank tag ("NN", "VBG", ...) of each word."""
        ...


class TextBlobTagger:
    """TextBlob's pattern parser: a lexicon that comes with the package, and endings for what is not in it."""

    def __init__(self) -> None:
        def load() -> Any:
            from textblob.en import parser

            return parser

        # What textblob itself begins with is all of NLTK, of which the parser is no part.
        self._parser = lean_import(load, bare=("textblob",))

    def tag(self, words: list[str]) -> list[str]:
        # Its lexicon is in lower case; a capital would make every unknown word a name.
        return [tag for _, tag in self._parser.find_tags([word.lower() for word in words])]


class SpacyTagger:
    """A spaCy pipeline; only what leads to its tags is run."""

    def __init__(self, pipeline: Language) -> None:
        self._pipeline = pipeline

    @classmethod
    def installed(cls) -> SpacyTagger | None:
        """The smallest English model that is installed, or None."""
        if importlib.util.find_spec("spacy") is None:
            return None
        import spacy

        names = [name for name in spacy.util.get_installed_models() if name.startswith("en_core_web")]
        for size in _SIZES:
            for name in sorted(names):
                if size in name:
                    return cls(spacy.load(name, exclude=["parser", "ner", "lemmatizer", "attribute_ruler"]))
        return None

    def tag(self, words: list[str]) -> list[str]:
        from spacy.tokens import Doc

        return [token.tag_ for token in self._pipeline(Doc(self._pipeline.vocab, words=words))]


@cache
def english_tagger() -> Tagger:
    """spaCy where an English model is installed, as in the paper, and TextBlob otherwise."""
    return SpacyTagger.installed() or TextBlobTagger()
