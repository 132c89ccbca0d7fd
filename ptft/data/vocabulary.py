"""Training of tokenizers: the same text always gives the same tokenizer.json."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import tokenizers
from tokenizers import Regex, decoders, models, normalizers, pre_tokenizers, trainers

from ptft.data.cache import cached
from ptft.data.tokenizer import ANY_CHARACTER, BYTES, LINE_OR_BRACKET, SPECIALS, WORD_MARK, Tokenizer
from ptft.errors import DataError, UserError

REPEATS = 1000


class BPE:
    """Byte-level byte-pair encoding (Sennrich et al. 2016; Radford et al. 2019): any text, exact round trip."""

    def __init__(self, vocab_size: int, min_frequency: int):
        self.vocab_size = vocab_size
        self.min_frequency = min_frequency

    def train(self, texts: Iterable[str]) -> Tokenizer:
        backend = tokenizers.Tokenizer(models.BPE())
        backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        backend.decoder = decoders.ByteLevel()
        trainer = trainers.BpeTrainer(
            vocab_size=self.vocab_size,
            min_frequency=self.min_frequency,
            special_tokens=list(SPECIALS),
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        )
        backend.train_from_iterator(present(texts), trainer)
        return checked(backend, self.vocab_size, "256 bytes")


class WordPiece:
    """BERT's words and ##continuations (Schuster & Nakajima 2012; Devlin et al. 2019): white space is not kept."""

    def __init__(self, vocab_size: int, min_frequency: int, lowercase: bool):
        self.vocab_size = vocab_size
        self.min_frequency = min_frequency
        self.lowercase = lowercase

    def train(self, texts: Iterable[str]) -> Tokenizer:
        counts: Counter[str] = Counter()
        for text in present(texts):
            counts.update(text.split())
        words = sorted(counts)
        # The library numbers continuations in random order, which decides ties: give them numbers beforehand.
        alphabet = self.fit(words, 0, []).get_vocab()
        endings = sorted(token for token in alphabet if token.startswith("##"))
        fitted = self.fit(repeated(words, counts), self.vocab_size, endings)
        backend = self.layout(models.WordPiece(fitted.get_vocab(), unk_token=SPECIALS[1]))
        backend.add_special_tokens(list(SPECIALS))
        return checked(backend, self.vocab_size, f"{len(alphabet) - len(SPECIALS)} characters and ##characters")

    def fit(self, texts: Iterable[str], vocab_size: int, endings: list[str]) -> tokenizers.Tokenizer:
        backend = self.layout(models.WordPiece(unk_token=SPECIALS[1]))
        trainer = trainers.WordPieceTrainer(
            vocab_size=vocab_size,
            min_frequency=self.min_frequency,
            special_tokens=[*SPECIALS, *endings],
            show_progress=False,
        )
        backend.train_from_iterator(texts, trainer)
        return backend

    def layout(self, model: models.WordPiece) -> tokenizers.Tokenizer:
        backend = tokenizers.Tokenizer(model)
        backend.normalizer = normalizers.BertNormalizer(lowercase=self.lowercase)
        backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        backend.decoder = decoders.WordPiece()
        return backend


class Unigram:
    """The unigram language model over pieces (Kudo 2018), for languages without spaces too."""

    def __init__(self, vocab_size: int):
        self.vocab_size = vocab_size

    def train(self, texts: Iterable[str]) -> Tokenizer:
        backend = tokenizers.Tokenizer(models.Unigram())
        split = pre_tokenizers.Metaspace(replacement=WORD_MARK, prepend_scheme="never")
        backend.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(LINE_OR_BRACKET), "isolated"), split])
        backend.decoder = decoders.Metaspace(replacement=WORD_MARK, prepend_scheme="never")
        seen: set[str] = set()
        trainer = trainers.UnigramTrainer(
            vocab_size=self.vocab_size, special_tokens=list(SPECIALS), unk_token=SPECIALS[1], show_progress=False
        )
        try:
            backend.train_from_iterator(watched(present(texts), seen), trainer)
        except DataError:
            raise
        except Exception as error:
            if "not large enough" not in str(error):
                raise
            raise too_small(self.vocab_size, len(SPECIALS) + len(seen), f"{len(seen)} characters") from error
        return checked(same_every_time(backend), self.vocab_size, f"{len(seen)} characters")


class Character:
    """One id for each character of the training text; characters it never saw become [UNK]."""

    def train(self, texts: Iterable[str]) -> Tokenizer:
        seen: set[str] = set()
        for text in present(texts):
            seen.update(text)
        entries = [*SPECIALS, *sorted(seen)]
        vocabulary = {entry: index for index, entry in enumerate(entries)}
        backend = tokenizers.Tokenizer(models.WordLevel(vocabulary, unk_token=SPECIALS[1]))
        backend.pre_tokenizer = pre_tokenizers.Split(Regex(ANY_CHARACTER), "isolated")
        backend.decoder = decoders.Fuse()
        backend.add_special_tokens(list(SPECIALS))
        return Tokenizer(backend)


class Byte:
    """One id for each of the 256 bytes of UTF-8: nothing to learn, nothing unknown."""

    def train(self, texts: Iterable[str]) -> Tokenizer:
        entries = [*SPECIALS, *sorted(BYTES, key=BYTES.__getitem__)]
        vocabulary = {entry: index for index, entry in enumerate(entries)}
        backend = tokenizers.Tokenizer(models.BPE(vocabulary, []))
        backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
        backend.decoder = decoders.ByteLevel()
        backend.add_special_tokens(list(SPECIALS))
        return Tokenizer(backend)


def trained(trainer: Any, dataset: Any, notes: list[str]) -> Tokenizer:
    """The tokenizer that `trainer` learns from the training split of `dataset`, kept in the cache."""
    settings = (type(trainer).__name__, sorted(vars(trainer).items()), dataset.fingerprint, tokenizers.__version__)

    def build(folder: Path) -> dict[str, Any]:
        trainer.train(dataset.texts("train")).save(folder / "tokenizer.json")
        return {}

    folder, _ = cached(f"tokenizer-{hashlib.sha256(repr(settings).encode()).hexdigest()[:40]}", build, notes)
    return Tokenizer.load(folder / "tokenizer.json")


def present(texts: Iterable[str]) -> Iterator[str]:
    """The texts, or a DataError where there are none."""
    empty = True
    for text in texts:
        empty = empty and not text
        yield text
    if empty:
        raise DataError("there is no text to train a tokenizer on; the training split is empty")


def watched(texts: Iterator[str], seen: set[str]) -> Iterator[str]:
    """The texts, while their characters are collected in `seen`."""
    for text in texts:
        seen.update(text)
        yield text


def repeated(words: list[str], counts: Counter[str]) -> Iterator[str]:
    """Each word as often as it was counted, in texts of bounded length."""
    for word in words:
        whole, rest = divmod(counts[word], REPEATS)
        yield from [f"{word} " * REPEATS] * whole
        yield f"{word} " * rest


def checked(backend: tokenizers.Tokenizer, vocab_size: int, alphabet: str) -> Tokenizer:
    """The tokenizer, unless what it cannot do without exceeds the asked size."""
    if backend.get_vocab_size() > vocab_size:
        raise too_small(vocab_size, backend.get_vocab_size(), alphabet)
    return Tokenizer(backend)


def too_small(vocab_size: int, needed: int, alphabet: str) -> UserError:
    """What is said where a vocabulary has no room for the special tokens and all characters."""
    return UserError(
        f"tokenizer.vocab_size={vocab_size} is too small: expected at least {needed} "
        f"({len(SPECIALS)} special tokens and the {alphabet} of this text)"
    )


def same_every_time(backend: tokenizers.Tokenizer) -> tokenizers.Tokenizer:
    """Undo what differs from one unigram training to the next: the last digits and the scores of the rarest characters.

    The library sums in random order, and hands the lowest scores, 0.0001 apart, to rare characters in random order.
    """
    state: dict[str, Any] = json.loads(backend.to_str())
    entries = state["model"]["vocab"]
    fixed, learned = entries[: len(SPECIALS)], dict(entries[len(SPECIALS) :])
    floor = min(learned.values(), default=0.0) + 1e-4 * (len(learned) + 1)
    rare = sorted(piece for piece, score in learned.items() if len(piece) == 1 and score <= floor)
    scores = sorted((learned[piece] for piece in rare), reverse=True)
    learned |= dict(zip(rare, scores, strict=True))
    rounded = [[piece, round(score, 4)] for piece, score in learned.items()]
    state["model"]["vocab"] = fixed + sorted(rounded, key=lambda entry: (-entry[1], entry[0]))
    return tokenizers.Tokenizer.from_str(json.dumps(state))
