r"""Cleaning of captions, exactly as the captions were cleaned that the model was trained on.

Made for captions found on the web: links, file names, serial numbers and advertising words go, as do Chinese
characters, which the text encoder does not know. A prompt in plain English comes out in lower case and otherwise as it
went in. It belongs to the model, like the tokenizer: text that is cleaned otherwise is text the model has never seen.

Source: the cleaning of DeepFloyd IF, as PixArt and Open-Sora 1.2 use it. (diffusers' PixArt pipelines carry it without
one `strip`, which changes the outcome where a quote or a dash comes to stand at an end.)
"""

import html
import re
import warnings
from urllib.parse import unquote_plus

_DOMAINS = r"[a-zA-Z0-9.\-]+[.](?:com|co|ru|net|org|edu|gov|it)[\w/-]*\b\/?(?!@)"
_FILE_TYPES = r"(?:png|jpg|jpeg|bmp|webp|eps|pdf|apk|mp4)"

Rules = tuple[tuple[re.Pattern[str], str], ...]


def _rules(*rules: tuple[str, str]) -> Rules:
    return tuple((re.compile(pattern), replacement) for pattern, replacement in rules)


_LINKS = _rules(
    (r"<person>", "person"),
    (rf"\b((?:https?:(?:\/{{1,3}}|[a-zA-Z0-9%])|{_DOMAINS}))", ""),
    (rf"\b((?:www:(?:\/{{1,3}}|[a-zA-Z0-9%])|{_DOMAINS}))", ""),
)
_SIGNS = _rules(
    (r"@[\w\d]+\b", ""),  # nicknames
    (r"[\u31c0-\u31ef]+", ""),  # strokes, katakana extensions, enclosed and compatibility forms, ideographs:
    (r"[\u31f0-\u31ff]+", ""),
    (r"[\u3200-\u32ff]+", ""),
    (r"[\u3300-\u33ff]+", ""),
    (r"[\u3400-\u4dbf]+", ""),
    (r"[\u4dc0-\u4dff]+", ""),
    (r"[\u4e00-\u9fff]+", ""),
    # every kind of dash
    (
        r"[\u002d\u058a\u05be\u1400\u1806\u2010-\u2015\u2e17\u2e1a\u2e3a\u2e3b\u2e40\u301c\u3030\u30a0\ufe31\ufe32"
        r"\ufe58\ufe63\uff0d]+",
        "-",
    ),
    (r"[`´«»“”¨]", '"'),
    (r"[‘’]", "'"),
    (r"&quot;?", ""),
    (r"&amp", ""),
    (r"\d{1,3}\.\d{1,3}\.\d{1,3}\.\d{1,3}", " "),  # network addresses
    (r"\d:\d\d\s+$", ""),  # a time of day at the end
    (r"\\n", " "),
    (r"#\d{1,3}\b", ""),  # numbers: #123, #12345, 123456
    (r"#\d{5,}\b", ""),
    (r"\b\d{6,}\b", ""),
    (rf"[\S]+\.{_FILE_TYPES}", ""),
    (r"[\"\']{2,}", '"'),
    (r"[\.]{2,}", " "),
    (r"[#®•©™&@·º½¾¿¡§~)(\]\[}{|\\/*]{1,}", " "),
    (r"\s+\.\s+", " "),
)
_WORDS = _rules(
    (r"\b[a-zA-Z]{1,3}\d{3,15}\b", ""),  # serial numbers: jc6640, jc6640vc, 6640vc231
    (r"\b[a-zA-Z]+\d+[a-zA-Z]+\b", ""),
    (r"\b\d+[a-zA-Z]+\d+\b", ""),
    (r"(worldwide\s+)?(free\s+)?shipping", ""),
    (r"(free\s)?download(\sfree)?", ""),
    (r"\bclick\b\s(?:for|on)\s\w+", ""),
    (rf"\b{_FILE_TYPES}(\simage[s]?)?", ""),
    (r"\bpage\s+\d+\b", ""),
    (r"\b\d*[a-zA-Z]+\d+[a-zA-Z]+\d+[a-zA-Z\d]*\b", " "),
    (r"\b\d+\.?\d*[xх×]\d+\.?\d*\b", ""),  # sizes: 1920x1080, with a Latin x, a Cyrillic one or a sign
    (r"\b\s+\:\s+", ": "),
    (r"(\D[,\./])\b", r"\1 "),
    (r"\s+", " "),
    (r"^[\"\']([\w\W]+)[\"\']$", r"\1"),
    (r"^[\'\_,\-\:;]", ""),
    (r"[\'\_,\-\:\-\+]$", ""),
    (r"^\.\S+$", ""),
)
_MARKUP = re.compile(r"[<&]")  # with neither, a text is its own text
_WORD_JOINTS = re.compile(r"[-_]")


def clean_caption(text: str) -> str:
    """The text as the text encoder is given it. It may come out empty."""
    # Twice, as in training: the second pass meets what the first has laid bare.
    return _clean_once(_clean_once(text))


def _clean_once(text: str) -> str:
    import ftfy

    text = _apply(_LINKS, unquote_plus(text).strip().lower())
    if _MARKUP.search(text):
        from bs4 import BeautifulSoup

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that a caption looks like a file name or a link is what we are here for
            text = BeautifulSoup(text, features="html.parser").text
    text = _apply(_SIGNS, text)
    if len(_WORD_JOINTS.findall(text)) > 3:  # a-name-of-a-file and not a hyphen or two
        text = _WORD_JOINTS.sub(" ", text)
    text = html.unescape(html.unescape(ftfy.fix_text(text))).strip()
    return _apply(_WORDS, text).strip()


def _apply(rules: Rules, text: str) -> str:
    for pattern, replacement in rules:
        text = pattern.sub(replacement, text)
    return text
