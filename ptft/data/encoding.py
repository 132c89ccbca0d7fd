"""Documents to token ids on disk: a stream in bounded memory, shared out over the cores."""

from __future__ import annotations

import multiprocessing
import os
import re
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

import numpy as np

from ptft.data.documents import SPLITS, Routed
from ptft.data.tokenizer import Tokenizer
from ptft.errors import MachineError

Report = Callable[[str, int, int], None]  # what is done, how much of it, out of how much
Encoded = dict[str, tuple[bytes, np.ndarray]]  # per split: ids, and where its documents end, counted from these ids

JOB = 1 << 18  # characters one worker gets at a time
UNCUT = 1 << 20  # text without any blank is cut here, whatever its tokenizer thinks
NEAR = 1 << 12
BREAK = re.compile(r"(?<=\S)[ \n]")
WORTH_WORKERS = 1 << 23  # characters from which starting processes pays


def encode_documents(
    parts: Iterator[Routed], tokenizer: Tokenizer, folder: Path, characters: int, report: Report | None
) -> dict[str, Any]:
    """Write `<split>.ids` and `<split>.ends` (int64, after each document's [EOS]); return type and counts."""
    kind = id_type(tokenizer.vocab_size)
    tokens = dict.fromkeys(SPLITS, 0)
    documents = dict.fromkeys(SPLITS, 0)
    files = {(split, part): (folder / f"{split}.{part}").open("wb") for split in SPLITS for part in ("ids", "ends")}
    try:
        done = 0
        for size, encoded in encode_jobs(jobs(whole_words(parts, tokenizer.streams)), tokenizer, characters):
            for split, (ids, ends) in encoded.items():
                files[split, "ids"].write(ids)
                files[split, "ends"].write((ends + tokens[split]).tobytes())
                tokens[split] += len(ids) // np.dtype(kind).itemsize
                documents[split] += len(ends)
            done += size
            if report:
                report("tokenising", done, characters)
    finally:
        for file in files.values():
            file.close()
    return {"type": kind, "tokens": tokens, "documents": documents}


def id_type(vocab_size: int) -> str:
    """The smallest type on disk that holds every id."""
    return "uint16" if vocab_size <= 1 << 16 else "int32"


def whole_words(parts: Iterator[Routed], cut: bool) -> Iterator[Routed]:
    """Move the ends of pieces to where the tokenizer splits anyway, so that pieces encode to the ids of the document.

    cut: whether the tokenizer splits before a blank or line end that follows something else; else documents are joined.
    """
    held: list[str] = []
    for split, text, ends in parts:
        held.append(text)
        if ends:
            yield split, "".join(held), True
            held = []
        elif cut:
            text = "".join(held)
            place = last_break(text)
            if place:
                yield split, text[:place], False
            held = [text[place:]]


def last_break(text: str) -> int:
    """The last place before a blank or line end that follows something else; 0 while more text may bring one."""
    for start in (max(len(text) - NEAR, 0), 0):
        place = max((found.start() for found in BREAK.finditer(text, start)), default=0)
        if place:
            return place
    return len(text) if len(text) >= UNCUT else 0


def jobs(parts: Iterator[Routed]) -> Iterator[list[Routed]]:
    """Parts in groups that are worth handing to another process."""
    group: list[Routed] = []
    size = 0
    for part in parts:
        group.append(part)
        size += len(part[1]) + 1
        if size >= JOB:
            yield group
            group, size = [], 0
    if group:
        yield group


def encode_jobs(groups: Iterator[list[Routed]], tokenizer: Tokenizer, characters: int) -> Iterator[tuple[int, Encoded]]:
    """The characters and ids of each group, in order."""
    workers = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    light = tokenizer.kind in ("byte", "character")
    if light or workers == 1 or characters < WORTH_WORKERS or multiprocessing.current_process().daemon:
        return (encode_group(tokenizer, group) for group in groups)
    return encode_parallel(groups, tokenizer, workers)


def encode_group(tokenizer: Tokenizer, group: list[Routed]) -> tuple[int, Encoded]:
    """The ids of one group by split, each document followed by [EOS]."""
    texts = [text for _, text, _ in group]
    end = np.array([tokenizer.eos_id], dtype=np.int32)
    collected: dict[str, tuple[list[np.ndarray], list[int]]] = {}
    lengths = dict.fromkeys(SPLITS, 0)
    for (split, _, ends), ids in zip(group, tokenizer.encode(texts), strict=True):
        pieces, places = collected.setdefault(split, ([], []))
        pieces.extend([ids, end] if ends else [ids])
        lengths[split] += len(ids) + ends
        if ends:
            places.append(lengths[split])
    kind = id_type(tokenizer.vocab_size)
    return sum(map(len, texts)), {
        split: (np.concatenate(pieces).astype(kind).tobytes(), np.array(places, dtype=np.int64))
        for split, (pieces, places) in collected.items()
    }


def encode_parallel(groups: Iterator[list[Routed]], tokenizer: Tokenizer, workers: int) -> Iterator[tuple[int, Encoded]]:
    """encode_group in other processes; only a few groups are ever in flight."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, context, start_worker, (tokenizer,)) as pool:
        waiting: deque = deque()
        try:
            for group in groups:
                waiting.append(pool.submit(encode_in_worker, group))
                if len(waiting) > 2 * workers:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        except BrokenProcessPool as error:
            raise MachineError("a tokenising process was killed; is memory short?") from error
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def start_worker(tokenizer: Tokenizer) -> None:
    """One thread a worker; interrupts are the parent's business, and its death is the worker's."""
    global worker_tokenizer
    worker_tokenizer = tokenizer
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=leave_with_parent, daemon=True).start()


def leave_with_parent() -> None:
    """End this worker once the process that started it is gone, however it ended."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def encode_in_worker(group: list[Routed]) -> tuple[int, Encoded]:
    """Encode a group of pieces with the tokenizer that this worker was started with."""
    return encode_group(worker_tokenizer, group)
