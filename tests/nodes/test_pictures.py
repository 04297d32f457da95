"""The picture of a cache, however long its prompts are."""

from PIL import Image, ImageDraw

from nodes.pictures import _fitting, _font


class Counting:
    """A canvas that counts how often it is asked how wide a text is."""

    def __init__(self):
        self.draw, self.asked = ImageDraw.Draw(Image.new("RGB", (10, 10))), 0

    def textlength(self, text, font):
        self.asked += 1
        return self.draw.textlength(text, font)


def test_a_prompt_of_any_length_is_cut_to_its_cell_in_no_time():
    for text in ("a red ball " * 4_000, "i" * 40_000, "W" * 40_000):
        draw = Counting()
        cut = _fitting(draw, text, 150)
        assert draw.asked < 20
        assert cut.endswith("…") and text.startswith(cut[:-1])
        assert draw.textlength(cut, _font(12)) <= 150 < draw.textlength(text[: len(cut)] + "…", _font(12))


def test_a_prompt_that_fits_is_whole():
    assert _fitting(Counting(), "a red ball", 150) == "a red ball"
