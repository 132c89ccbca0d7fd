"""Text to ids and back: the `tokenizers` library with fast paths that give the same ids."""

from __future__ import annotations

import hashlib
import json
import os
import re
from array import array
from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import tokenizers

from ptft.data.word_split import SPACE, kind_of_words
from ptft.errors import CheckpointError

# Said before the first use, so that the library does not warn when a loader forks its workers.
os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")

SPECIALS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "[EOS]")
# what plays these parts in vocabularies from elsewhere: those of BERT, RoBERTa and GPT-2, which has one token for all
BERT, ROBERTA = (*SPECIALS[:5], "[SEP]"), ("<pad>", "<unk>", "<s>", "</s>", "<mask>", "</s>")
GPT2_LIKE = ("<|endoftext|>",) * len(SPECIALS)
CASTS = (SPECIALS, BERT, ROBERTA, GPT2_LIKE)
WORD_MARK = "\u2581"
CACHED_CHUNKS = 1 << 17
MARKS = r"!-/:-@\[-`{-~"
# What no version of Unicode will reclassify: Latin, Cyrillic and Chinese letters, general and Chinese punctuation.
LETTERS = "A-Za-zÀ-ÖØ-öø-ɏЀ-ҁҊ-ԯ一-鿿"
WIDE_MARKS = MARKS + "‐-‧、-〃！-／"
# The split of GPT-2 (Radford et al. 2019) where all characters are of these kinds; else up to the next white space.
GPT2 = (
    r"'(?:s|t|re|ve|m|ll|d)"
    rf"| ?[{LETTERS}]+(?![^{SPACE}0-9{WIDE_MARKS}])"
    rf"| ?[0-9]+(?![^{SPACE}{LETTERS}{WIDE_MARKS}])"
    rf"| ?[{WIDE_MARKS}]+(?![^{SPACE}{LETTERS}0-9])"
    rf"| ?[^{SPACE}]+|[{SPACE}]+(?![^{SPACE}])|[{SPACE}]+"
)
PLAIN_WORD = re.compile(f" ?(?:[{LETTERS}]+|[0-9]+|[{WIDE_MARKS}]+)")  # one piece of that split
# Where each pre-tokeniser always splits: encoding the chunks one by one gives the ids of the whole text.
CHUNKS = {
    "bpe": re.compile(GPT2),
    "wordpiece": re.compile(rf"[A-Za-z0-9]+(?![^ \n\t\r{MARKS}])|[{MARKS}]|[^ \n\t\r]+"),
    "unigram": re.compile(rf" ?[^ \n\[{WORD_MARK}]+| |\n|\[|{WORD_MARK}[^ \n\[{WORD_MARK}]*"),
    "word": re.compile(r"[^ \n\t\r]+"),
}


class Tokenizer:
    """A trained tokenizer: what turns text into ids in every stage of a model's life.

    Text is never read as special tokens: a document that says "[EOS]" is encoded as the characters it has. So is one that says
    "[SEP]" or "</s>" with a published vocabulary, where Hugging Face's library would put the token itself.
    """

    def __init__(self, backend: tokenizers.Tokenizer):
        backend.encode_special_tokens = True
        self.backend = backend
        self.state: dict[str, Any] = json.loads(backend.to_str())
        self.vocab_size = backend.get_vocab_size()
        self.specials = cast(backend)
        self.special_ids = tuple(map(backend.token_to_id, self.specials))
        self.pad_id, self.unk_id, self.cls_id, self.sep_id, self.mask_id, self.eos_id = self.special_ids
        self.between = self.parting()
        self.kind = kind_of(self.state)
        self.hash = hashlib.sha256(canonical(self.state).encode()).hexdigest()
        self.known: dict[str, bytes] = {}

    @classmethod
    def load(cls, path: str | Path) -> Tokenizer:
        """Read a tokenizer.json; CheckpointError where it is missing, damaged or lacks a special token."""
        try:
            return cls.from_json(Path(path).read_text("utf-8"))
        except (OSError, UnicodeDecodeError) as error:
            raise CheckpointError(f"{path}: cannot read the tokenizer ({error})") from error
        except CheckpointError as error:
            raise CheckpointError(f"{path}: {error}") from error

    @classmethod
    def from_json(cls, text: str) -> Tokenizer:
        """A tokenizer from the text of its tokenizer.json."""
        try:
            backend = tokenizers.Tokenizer.from_str(text)
            backend.no_padding()
            backend.no_truncation()
        except Exception as error:
            raise CheckpointError(f"damaged tokenizer ({str(error).splitlines()[0]})") from error
        return cls(backend)

    def to_json(self) -> str:
        """The text of tokenizer.json."""
        return self.backend.to_str(pretty=True)

    def save(self, path: str | Path) -> None:
        """Write tokenizer.json."""
        Path(path).write_text(self.to_json(), encoding="utf-8")

    def __reduce__(self) -> tuple:
        return Tokenizer.from_json, (self.backend.to_str(),)

    @property
    def streams(self) -> bool:
        """Whether a text cut before a blank that follows a letter encodes to the ids of the whole."""
        return self.kind not in ("phrase", "other")

    @cached_property
    def ends_texts(self) -> bool:
        """Whether its file says that a text ends in [EOS]: other programs then put one behind it."""
        return self.backend.encode("").ids[-1:] == [self.eos_id]

    def parting(self) -> tuple[int, ...]:
        """What parts two texts: [SEP], RoBERTa's two, and with GPT-2's vocabulary what its file says, most often nothing."""
        if self.specials == GPT2_LIKE:
            return tuple(self.backend.encode("", "").ids[:-1]) if self.ends_texts else ()
        return (self.sep_id,) * (2 if self.specials == ROBERTA else 1)

    def encode(self, texts: Sequence[str]) -> list[np.ndarray]:
        """The ids of each text, without special tokens: int32 arrays [length]."""
        if self.kind in ("byte", "character"):
            return [self.look_up(text) for text in texts]
        if self.kind in CHUNKS:
            return self.encode_chunks(texts)
        if self.kind == "phrase":
            return self.encode_lines(texts)
        return [np.array(entry.ids, dtype=np.int32) for entry in self.encode_plain(texts)]

    def encode_plain(self, texts: Sequence[str]) -> list:
        """What the library finds, a text at a time."""
        return self.backend.encode_batch_fast(list(texts), add_special_tokens=False)

    def encode_chunks(self, texts: Sequence[str]) -> list[np.ndarray]:
        """Encode by words that were seen before; only new ones are handed to the library."""
        split = CHUNKS[self.kind].findall
        chunked = [split(text) for text in texts]
        missing = list(set().union(*chunked) - self.known.keys())
        self.learn(missing)
        ids = [np.frombuffer(b"".join(map(self.known.__getitem__, chunks)), dtype=np.int32) for chunks in chunked]
        if len(self.known) > CACHED_CHUNKS:  # words met early are the frequent ones: keep those
            for chunk in missing:
                del self.known[chunk]
        return ids

    def encode_lines(self, texts: Sequence[str]) -> list[np.ndarray]:
        """Encode line by line, since a phrase is within one; long texts at once take the library very much memory."""
        lines = [text.split("\n") for text in texts]
        entries = iter(self.encode_plain([line for text in lines for line in text]))
        return [np.array([index for _ in text for index in next(entries).ids], dtype=np.int32) for text in lines]

    def learn(self, chunks: list[str]) -> None:
        """Remember the ids of chunks; plain words of byte-level BPE go to its merges directly, which is three times faster."""
        plain = PLAIN_WORD.fullmatch if self.kind == "bpe" else (lambda chunk: None)
        others = [chunk for chunk in chunks if not plain(chunk)]
        for chunk in set(chunks).difference(others):
            pieces = self.backend.model.tokenize(chunk.encode().decode("latin-1").translate(BYTE_LETTERS))
            self.known[chunk] = array("i", [piece.id for piece in pieces]).tobytes()
        for chunk, entry in zip(others, self.encode_plain(others), strict=True):
            self.known[chunk] = array("i", entry.ids).tobytes()

    def look_up(self, text: str) -> np.ndarray:
        """Ids of characters or bytes by one table."""
        if self.kind == "byte":
            codes = np.frombuffer(text.encode(), dtype=np.uint8)
        else:
            codes = np.frombuffer(text.encode("utf-32-le"), dtype=np.uint32)
        return self.table.take(codes, mode="clip")

    @cached_property
    def table(self) -> np.ndarray:
        """Id of each byte, or of each character code; the last entry stands for all codes beyond it."""
        known = {code_of(token, self.kind): index for token, index in self.backend.get_vocab(False).items()}
        known.pop(None, None)
        table = np.full(max(known, default=0) + 2, self.unk_id, dtype=np.int32)
        table[list(known)] = list(known.values())
        return table

    def decode(self, ids: Iterable[int], skip_special: bool = True) -> str:
        """The text of ids; exact for the byte-level, byte and character tokenizers."""
        return self.backend.decode([int(index) for index in ids], skip_special_tokens=skip_special)

    def token(self, index: int) -> str:
        """The vocabulary entry of one id."""
        return self.backend.id_to_token(int(index))

    @cached_property
    def token_bytes(self) -> list[bytes]:
        """What each id stands for in UTF-8; empty for special tokens."""
        tokens = [self.token(index) for index in range(self.vocab_size)]
        special = set(self.special_ids)
        return [b"" if index in special else bytes_of(token, self.state) for index, token in enumerate(tokens)]

    @cached_property
    def starts_word(self) -> np.ndarray:
        """Which ids begin a word, bool [vocab_size]: what whole-word masking goes by."""
        special = set(self.special_ids)
        flags = [
            index in special or opens_word(content, self.token(index), self.kind)
            for index, content in enumerate(self.token_bytes)
        ]
        return np.array(flags, dtype=bool)

    @cached_property
    def byte_lengths(self) -> np.ndarray:
        """Bytes of text each id stands for, int64 [vocab_size]; 0 for special tokens."""
        return np.array([len(content) for content in self.token_bytes], dtype=np.int64)


def cast(backend: tokenizers.Tokenizer) -> tuple[str, ...]:
    """The tokens that play the parts of SPECIALS."""
    missing = {names: [name for name in names if backend.token_to_id(name) is None] for names in CASTS}
    found = min(CASTS, key=lambda names: len(missing[names]) / len(names))
    if missing[found]:
        raise CheckpointError(f"the tokenizer has no {missing[found][0]} token; expected all of {' '.join(found)}")
    return found


def canonical(state: dict[str, Any]) -> str:
    """One text for equal tokenizers, whatever the order of their keys."""
    return json.dumps(state, sort_keys=True, ensure_ascii=False, separators=(",", ":"))


def kind_of(state: dict[str, Any]) -> str:
    """Which fast path gives the library's ids: bpe, wordpiece, unigram, character, byte, word, phrase or other."""
    model, before, normal = state["model"], state["pre_tokenizer"] or {}, state["normalizer"]
    layout = (model["type"], before.get("type"))
    if len(state["added_tokens"]) > len(SPECIALS):
        return "other"
    if layout == ("WordPiece", "BertPreTokenizer") and normal and normal["type"] == "BertNormalizer":
        return "wordpiece"
    if model["type"] == "WordLevel" and normal in (None, {"type": "Lowercase"}) and (found := kind_of_words(before)):
        return found
    if normal is not None:
        return "other"
    if layout == ("BPE", "ByteLevel") and not before["add_prefix_space"]:
        return "bpe" if before["use_regex"] else "other" if model["merges"] else "byte"
    if layout == ("WordLevel", "Split") and before["pattern"] == {"Regex": ANY_CHARACTER}:
        return "character"
    return "unigram" if model["type"] == "Unigram" and before == UNIGRAM_SPLIT else "other"


ANY_CHARACTER = r"[\s\S]"
LINE_OR_BRACKET = r"[\n\[]"  # brackets apart: the special tokens are pieces of this model, and no text may spell one
UNIGRAM_SPLIT = {
    "type": "Sequence",
    "pretokenizers": [
        {"type": "Split", "pattern": {"Regex": LINE_OR_BRACKET}, "behavior": "Isolated", "invert": False},
        {"type": "Metaspace", "replacement": WORD_MARK, "prepend_scheme": "never", "split": True},
    ],
}


def byte_alphabet() -> dict[str, int]:
    """The character that byte-level vocabularies write for each byte (Radford et al. 2019)."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in set(printable)]
    return {chr(byte): byte for byte in printable} | {chr(256 + place): byte for place, byte in enumerate(others)}


BYTES = byte_alphabet()
BYTE_LETTERS = {byte: letter for letter, byte in BYTES.items()}


def code_of(token: str, kind: str) -> int | None:
    """The byte or character code a one-symbol token stands for."""
    if len(token) != 1:
        return None
    return BYTES[token] if kind == "byte" else ord(token)


def bytes_of(token: str, state: dict[str, Any]) -> bytes:
    """The UTF-8 bytes a vocabulary entry stands for."""
    if (state["pre_tokenizer"] or {}).get("type") == "ByteLevel":
        return bytes(BYTES[letter] for letter in token if letter in BYTES)
    if state["model"]["type"] == "WordPiece":
        return token.removeprefix("##").encode()
    return token.replace(WORD_MARK, " ").encode()


def opens_word(content: bytes, token: str, kind: str) -> bool:
    """A token goes on with a word if it starts with a letter, a digit or the inside of a character.

    Ideographs (three UTF-8 bytes from E3 on) are words by themselves; WordPiece says it with its ## mark.
    """
    if kind in ("word", "phrase"):
        return True
    if kind == "wordpiece":
        return not token.startswith("##")
    first = content[:1]
    return not (first.isalnum() or b"\x80" <= first < b"\xe3" or first >= b"\xea")
