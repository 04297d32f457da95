"""The two sources of tags, and what loads when."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

from chai_app.prompts import Mention, Mentions, extract
from chai_app.prompts.taggers import SpacyTagger, TextBlobTagger, english_tagger

ROOT = Path(__file__).parent.parent.parent


class Dictionary:
    """A tagger that looks words up: the interface is one method."""

    def tag(self, words: list[str]) -> list[str]:
        tags = {"a": "DT", "the": "DT", "in": "IN", "glim": "NN", "frobs": "VBZ"}
        return [tags.get(word, "NN") for word in words]


def test_any_object_with_the_one_method_can_be_the_tagger():
    found = extract("a glim frobs in the meadow", tagger=Dictionary())
    assert found == Mentions((Mention("glim", "glim", (), 1),), (Mention("meadow", "meadow", (), 1),))


def test_textblob_tags_without_any_corpus():
    tags = TextBlobTagger().tag(["A", "red", "balloon", "rising", ","])
    assert tags == ["DT", "JJ", "NN", "VBG", ","]


@pytest.mark.skipif(SpacyTagger.installed() is None, reason="no English model of spaCy is installed")
def test_spacy_comes_first_where_an_english_model_is_installed():
    assert isinstance(english_tagger(), SpacyTagger)


@pytest.mark.skipif(SpacyTagger.installed() is not None, reason="an English model of spaCy is installed")
def test_textblob_serves_where_spacy_has_no_model():
    assert isinstance(english_tagger(), TextBlobTagger)


@pytest.mark.skipif(importlib.util.find_spec("spacy") is None, reason="spaCy is not installed")
def test_a_spacy_pipeline_is_given_our_words_and_gives_one_tag_for_each():
    import spacy

    pipeline = spacy.blank("en")
    ruler = pipeline.add_pipe("attribute_ruler")
    ruler.add([[{"LOWER": "fox"}]], {"TAG": "NN"})
    assert SpacyTagger(pipeline).tag(["fox", "hen-house"]) == ["NN", ""]
    assert extract("a fox", SpacyTagger(pipeline)).objects == (Mention("fox", "fox", (), 1),)


def test_importing_the_room_loads_neither_library_nor_the_list_of_nouns():
    code = """
import sys
import chai_app.prompts
from chai_app.prompts import nouns
heavy = {"textblob", "nltk", "spacy", "numpy", "torch", "rich"} & set(sys.modules)
assert not heavy, heavy
assert nouns._sections.cache_info().currsize == 0
"""
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)
