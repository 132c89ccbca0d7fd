"""Benchmark of word vectors: words of running text a second on one core, against gensim and the original word2vec."""

from __future__ import annotations

import statistics
from argparse import Namespace
from pathlib import Path

from benchmarks.costs import sample
from benchmarks.report import ratios, spread, table
from benchmarks.training import budget, settings
from benchmarks.turns import interleave

PTFT = "dataset=text tokenizer.marks=kept trainer.steps=1000000 device=cpu"


def words(options: Namespace, folder: Path) -> None:
    """Skip-gram and CBOW of the same sizes, each on one thread; gensim without the queue of its own trainer.

    word2vec by the rate it prints itself: reading the vocabulary and filling its table of noise do not count.
    """
    path = folder / "text.txt"
    path.write_text(options.text.read_text("utf-8") if options.text else sample(), encoding="utf-8")
    lower = folder / "lower.txt"
    lower.write_text(path.read_text("utf-8").lower(), encoding="utf-8")
    rows = []
    for kind in ("skipgram", "cbow"):
        ours = settings(options, folder, f"objective={kind} dataset.path={path} {PTFT}", quick="model.dim=24")
        sides = {"ptft": ["ptft", *ours], "gensim": ["gensim", kind, str(path)]}
        if options.word2vec:
            sides["word2vec"] = ["word2vec", kind, str(lower), str(options.word2vec)]
        turns = interleave(sides, budget(options, 30), folder, equal=False)
        rates = {
            name: [{"seconds": turn["seconds"] / (turn["steps"] * turn["tokens"])} for turn in told]
            for name, told in turns.items()
        }
        told = {name: f"{1 / statistics.median(turn['seconds'] for turn in rates[name]):,.0f}" for name in sides}
        for peer in list(sides)[1:]:
            rows.append([kind, peer, told["ptft"], told[peer], *spread(ratios(rates[peer], rates["ptft"]))])
    table(["", "against", "ptft words/s", "its words/s", "ptft is faster: min", "median", "max"], rows)
