"""The tokenizer of whole words, and of phrases found in the text."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from itertools import groupby, pairwise
from typing import Literal

import tokenizers
from tokenizers import Regex, models, normalizers, pre_tokenizers

from ptft.data.tokenizer import CHUNKS, SPECIALS, Tokenizer
from ptft.data.vocabulary import present
from ptft.data.word_split import BEGINS, LETTER, WORDS
from ptft.errors import UserError

LINE_END = re.compile(r"[\n\t\r]")


class Word:
    """Whole words, the most frequent ones first; all others become [UNK]. White space is not kept.

    vocab_size: at most so many, or null for all; min_count: words that occur less often are left out. marks: punctuation is
    made of words of its own (apart), or belongs to the words beside it (kept), and each Chinese or Japanese character is a
    word; or only blanks part words (blanks). phrases: two words are one, "new_york", where
    (n_ab - min_count) / (n_a n_b) * N is above this (word2phrase; Mikolov et al. 2013, 1310.4546, 4), within a line.
    """

    def __init__(
        self,
        vocab_size: int | None,
        min_count: int,
        lowercase: bool,
        marks: Literal["apart", "kept", "blanks"],
        phrases: float | None,
    ):
        if min_count < 1:
            raise ValueError(f"min_count={min_count}: expected at least 1")
        self.vocab_size, self.min_count = vocab_size, min_count
        self.lowercase, self.marks, self.phrases = lowercase, marks, phrases

    def train(self, texts: Iterable[str]) -> Tokenizer:
        backend = self.layout({SPECIALS[1]: 0}, [])
        chunks, pairs = self.count(present(texts))
        words = {chunk: self.words(backend, chunk) for chunk in chunks}
        counts: Counter[str] = Counter()
        for chunk, number in chunks.items():
            for word in words[chunk]:
                counts[word] += number
        found = self.detect(pairs, words, counts) if self.phrases is not None else {}
        for (first, second), number in found.items():
            counts[f"{first}_{second}"] += number  # its words stay known: they may stand alone in another text
        room = len(counts) if self.vocab_size is None else max(self.vocab_size - len(SPECIALS), 0)
        frequent = sorted((-number, word) for word, number in counts.items() if number >= self.min_count)[:room]
        if not frequent:
            raise UserError(f"tokenizer.min_count={self.min_count}: no word of this text occurs that often; lower it")
        entries = [*SPECIALS, *(word for _, word in frequent)]
        known = sorted(pair for pair in found if "_".join(pair) in set(entries))
        backend = self.layout({entry: index for index, entry in enumerate(entries)}, known)
        backend.add_special_tokens(list(SPECIALS))
        return Tokenizer(backend)

    def layout(self, vocabulary: dict[str, int], phrases: list[tuple[str, str]]) -> tokenizers.Tokenizer:
        """The pipeline from text to words and phrases."""
        backend = tokenizers.Tokenizer(models.WordLevel(vocabulary, unk_token=SPECIALS[1]))
        if self.lowercase:
            backend.normalizer = normalizers.Lowercase()
        if not phrases:
            backend.pre_tokenizer = pre_tokenizers.Split(Regex(WORDS[self.marks]), "removed", invert=True)
            return backend
        split = pre_tokenizers.Split(
            Regex(f"{phrase_pattern(phrases, self.marks)}|{WORDS[self.marks]}"), "removed", invert=True
        )
        joined = pre_tokenizers.Metaspace(replacement="_", prepend_scheme="never", split=False)
        backend.pre_tokenizer = pre_tokenizers.Sequence([split, joined])
        return backend

    def count(self, texts: Iterable[str]) -> tuple[Counter[str], Counter[tuple[str, str]]]:
        """How often there is what stands between blanks, and two such things with one blank between them."""
        chunks: Counter[str] = Counter()
        pairs: Counter[tuple[str, str]] = Counter()
        for text in texts:
            chunks.update(CHUNKS["word"].findall(text))
            if self.phrases is not None:
                for line in LINE_END.split(text):
                    pairs.update(pairwise(line.split(" ")))
        return chunks, pairs

    def words(self, backend: tokenizers.Tokenizer, text: str) -> list[str]:
        """The words of a text without phrases."""
        text = text if backend.normalizer is None else backend.normalizer.normalize_str(text)
        return [word for word, _ in backend.pre_tokenizer.pre_tokenize_str(text)]

    def detect(
        self, pairs: Counter[tuple[str, str]], words: dict[str, list[str]], counts: Counter[str]
    ) -> dict[tuple[str, str], int]:
        """The phrases and how often each occurs; marks are in none, nor are Chinese characters that are words."""
        together: Counter[tuple[str, str]] = Counter()
        for (left, right), number in pairs.items():
            if left and right and words[left] and words[right]:
                together[words[left][-1], words[right][0]] += number
        total, letters = counts.total(), re.compile(f"{BEGINS[self.marks]}.*")
        found = {}
        for (first, second), number in together.items():
            score = (number - self.min_count) / (counts[first] * counts[second]) * total
            if score > self.phrases and letters.fullmatch(first) and letters.fullmatch(second):
                found[first, second] = number
        return found


def phrase_pattern(phrases: list[tuple[str, str]], marks: str) -> str:
    """What matches one of the phrases, sorted, as whole words."""
    begins = groupby(phrases, key=lambda phrase: phrase[0])
    kinds = [f"{re.escape(first)} (?:{'|'.join(re.escape(second) for _, second in group)})" for first, group in begins]
    letter = LETTER[marks]
    return f"(?:{'|'.join(kinds)})(?!{letter}|['’]{letter})"
