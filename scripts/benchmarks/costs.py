"""Benchmarks of what happens around training: starting, tokenising, saving."""

from __future__ import annotations

import gzip
import os
import shutil
import subprocess
import sys
import time
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.report import ratios, spread, table

PTFT = str(Path(sys.executable).with_name("ptft"))
VOCABULARY = 8192


def sample() -> str:
    """The text that ships with ptft."""
    import ptft

    return gzip.decompress((Path(ptft.__file__).parent / "data/samples/shakespeare.txt.gz").read_bytes()).decode()


def start(options: Namespace, folder: Path) -> None:
    """How long until ptft says something, and until it has trained one step."""
    (folder / "text.txt").write_text(sample()[: 20_000 if options.quick else 1_000_000])
    python = [sys.executable, "-c"]
    cases = {
        "python": lambda number: ended([*python, ""]),
        "import torch": lambda number: ended([*python, "import torch"]),
        "ptft --help": lambda number: ended([PTFT, "--help"]),
        "ptft pretran": lambda number: ended([PTFT, "pretran"]),
        "ptft pretrain trainer.batchsize=3": lambda number: ended([PTFT, "pretrain", "trainer.batchsize=3"]),
        "first step, 1 MB, nothing cached": lambda number: first_step(folder, f"cold-{number}"),
        "first step, 1 MB, tokens cached": lambda number: first_step(folder, "cold-0", f"-cached-{number}"),
    }
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in cases}
    for number in range(1 if options.quick else 5):
        for name, case in cases.items():
            times[name].append(case(number))
    rows = [[f"`{name}`", *spread(wall for wall, _ in took), *spread(cpu for _, cpu in took)] for name, took in times.items()]
    table(["", "seconds: min", "median", "max", "of CPU: min", "median", "max"], rows)


def ended(words: list[str]) -> tuple[float, float]:
    """Seconds until a command has ended, by the wall clock and of CPU."""
    began = time.perf_counter()
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return _seconds(process, began)


def first_step(folder: Path, cache: str, run: str = "") -> tuple[float, float]:
    """Seconds until the first step of `ptft pretrain` is logged."""
    metrics = folder / f"{cache}{run}" / "metrics.jsonl"
    words = ["dataset=text", f"dataset.path={folder / 'text.txt'}", f"run={metrics.parent}", "trainer.log_every=1"]
    environment = {**os.environ, "PTFT_CACHE": str(folder / f"cache-{cache}")}
    with open(folder / "log", "wb") as log:
        began = time.perf_counter()
        process = subprocess.Popen([PTFT, "pretrain", *words], stdout=log, stderr=log, env=environment)
    while not (metrics.exists() and metrics.stat().st_size):
        if process.poll() is not None:
            sys.exit(f"ptft ended early:\n{(folder / 'log').read_text()[-3000:]}")
        time.sleep(0.002)
    took = time.perf_counter() - began
    process.kill()
    return took, _seconds(process, began)[1]


def _seconds(process: subprocess.Popen, began: float) -> tuple[float, float]:
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    return time.perf_counter() - began, used.ru_utime + used.ru_stime


def tokenize(options: Namespace, folder: Path) -> None:
    """Encoding, against the library's encode_batch by lines; the ids must be the same."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("RAYON_NUM_THREADS", "1")
    from ptft.data.tokenizer import Tokenizer

    text = options.text.read_text("utf-8") if options.text else sample()
    text = text[:50_000] if options.quick else text
    lines, megabytes, rows = text.splitlines(keepends=True), len(text.encode()) / 1e6, []
    for trainer in _trainers():
        trained = trainer.train(iter([text])).to_json()
        ours, theirs = [], []
        for _ in range(1 if options.quick else 5):
            tokenizer, peer = Tokenizer.from_json(trained), Tokenizer.from_json(trained).backend  # neither knows a word yet
            ours.append(_timed(tokenizer.encode, [text]))  # as ptft does: in large pieces
            theirs.append(_timed(peer.encode_batch, lines, add_special_tokens=False))
        same = ours[-1]["result"][0].tolist() == [index for line in theirs[-1]["result"] for index in line.ids]
        rates = [f"{megabytes / min(turn['seconds'] for turn in side):.2f}" for side in (ours, theirs)]
        rows.append([type(trainer).__name__, *rates, *spread(ratios(theirs, ours)), "same" if same else "DIFFERENT"])
    table(["tokenizer", "ptft MB/s", "encode_batch MB/s", "ptft is faster: min", "median", "max", "ids"], rows)


def _trainers() -> list[Any]:
    from ptft.data.vocabulary import BPE, Byte, Character, Unigram, WordPiece

    return [BPE(VOCABULARY, 2), WordPiece(VOCABULARY, 2, lowercase=True), Unigram(VOCABULARY), Character(), Byte()]


def _timed(call: Callable, *arguments: Any, **named: Any) -> dict[str, Any]:
    began = time.perf_counter()
    result = call(*arguments, **named)
    return {"seconds": time.perf_counter() - began, "result": result}


def checkpoint(options: Namespace, folder: Path) -> None:
    """Saving with hashes and fsync, against torch.save without either."""
    import torch

    from ptft import checkpoint as ours

    rows = []
    for millions in (1,) if options.quick else (1, 10, 50):
        layers = {f"layer.{index}": torch.randn(1000, 1000) for index in range(millions)}
        memory = {f"{name}::{moment}": torch.randn(1000, 1000) for name in layers for moment in ("exp_avg", "exp_avg_sq")}
        groups = {"model": layers, "optimizer": memory}
        saved, peer = [], []
        for number in range(1 if options.quick else 5):
            saved.append(_timed(ours.save, folder / "checkpoints", number, groups, {}, "", {}, {"run_id": "benchmark"}))
            shutil.rmtree(folder / "checkpoints")
            peer.append(_timed(torch.save, groups, folder / "peer.pt"))
            (folder / "peer.pt").unlink()
        sizes = f"{12 * millions} MB"
        medians = [spread([turn["seconds"] for turn in side], ".3f")[1] for side in (saved, peer)]
        rows.append([sizes, *medians, *spread(ratios(saved, peer))])
    table(["model and optimizer", "ptft s", "torch.save s", "ptft takes, times: min", "median", "max"], rows)
