"""Where running text is cut into words and phrases, as the `tokenizers` library is told."""

from __future__ import annotations

from typing import Any

from ptft.nn.words import CHARACTER

# White space as the library's regular expressions know it; Python's \s has four control characters more.
SPACE = "\t-\r \x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"
# A blank within what was kept is within a phrase.
PHRASE_JOIN = {"type": "Metaspace", "replacement": "_", "prepend_scheme": "never", "split": False}
# Words of running text, with and without their marks: a Chinese or Japanese character is a word, and so is a bracket, for no
# text may spell a special token. Inside a word an apostrophe is none of the marks, nor is the underscore of a phrase.
WORD_MARKS = "!-/:-@\\[-\\^`{-~¡§«¶·»¿،؛؟।॥‐-‧‹›"
LETTER = {
    "apart": f"[^{SPACE}{CHARACTER}{WORD_MARKS}]",
    "kept": rf"[^{SPACE}{CHARACTER}\[]",
    "blanks": rf"[^{SPACE}\[]",
}
# what words of a phrase begin with
BEGINS = {**dict.fromkeys(LETTER, LETTER["apart"]), "blanks": f"[^{SPACE}{WORD_MARKS}、-〄〈-〠・！-／：-＠]"}
WORDS = {
    "apart": f"[{CHARACTER}{WORD_MARKS}]|{LETTER['apart']}+(?:['’]{LETTER['apart']}+)*",
    "kept": rf"[{CHARACTER}\[]|{LETTER['kept']}+",
    "blanks": rf"\[|{LETTER['blanks']}+",  # of text that was cut into words before
}


def kind_of_words(before: dict[str, Any]) -> str | None:
    """Whether a pre-tokeniser is one that word_vocabulary.Word makes: of words, or of words and phrases."""
    if before.get("type") == "Sequence" and before["pretokenizers"][1:] == [PHRASE_JOIN]:
        return "phrase"
    return "word" if before in [word_split(pattern) for pattern in WORDS.values()] else None


def word_split(pattern: str) -> dict[str, Any]:
    """The pre-tokeniser that keeps what matches."""
    return {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Removed", "invert": True}
