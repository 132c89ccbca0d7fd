"""Benchmarks of training: the loop itself, ptft against its peers, the share of the machine's peak, the share of the data."""

from __future__ import annotations

import itertools
import statistics
from argparse import Namespace
from importlib.util import find_spec
from pathlib import Path

from benchmarks.report import ratios, spread, table
from benchmarks.turns import WARM, interleave

NUMBERS = itertools.count()
SMALL = "model.dim=24 model.layers=1 trainer.batch_size=2"
FLAT = "trainer.steps=1000000 schedule.warmup=0"
TINY = f"model=transformer_tiny model.dim=16 model.layers=1 model.max_length=32 trainer.batch_size=2 {FLAT}"
DEFAULT = FLAT
# the sizes of performance.md: 4 layers of 256, 32 texts of 128 tokens; the optimizer is that of the others
BERT = f"model=bert_mini model.max_length=128 model.segments=0 tokenizer.vocab_size=8192 optimizer=adamw {FLAT}"
GPT = (
    "objective=clm model.positions=learned model.dim=256 model.hidden=1024 model.activation=gelu_tanh "
    f"tokenizer.vocab_size=8192 optimizer=adamw {FLAT}"
)
CHARACTERS = "experiment=shakespeare_char"
SOONER, SOONER_STEPS, NANOGPT_STEPS = f"experiment=shakespeare_char_fast {FLAT}", 110, 2000
LARGER = (
    f"{CHARACTERS} model.layers=6 model.heads=6 model.dim=384 model.hidden=1536 model.max_length=256 model.dropout=0.2 "
    "trainer.batch_size=64"
)
NANOGPT = (
    "config/train_shakespeare_char.py --device=cpu --compile=False --eval_iters=1 --eval_interval=1000000 --log_interval=1 "
    "--block_size=64 --batch_size=12 --n_layer=4 --n_head=4 --n_embd=128 --dropout=0.0 "
    f"--max_iters={NANOGPT_STEPS} --lr_decay_iters={NANOGPT_STEPS}"
)


def loop(options: Namespace, folder: Path) -> None:
    """What the loop costs over the same objective, optimizer and batches in a bare loop."""
    rows = []
    for name, words in {"tiny": TINY, "ptft pretrain": DEFAULT, "4x256, 32x128": BERT}.items():
        side = {name: ["loop", *settings(options, folder, words)]}
        turns = interleave(side, budget(options, 35), folder)[name]
        step = statistics.median(turn["bare"] / turn["steps"] for turn in turns) * 1000
        extra = [(turn["seconds"] - turn["bare"]) / turn["steps"] * 1000 for turn in turns]
        share = [100 * (turn["seconds"] / turn["bare"] - 1) for turn in turns]
        rows.append([name, f"{step:.2f}", *spread(share), *spread(extra, ".3f")])
    head = ["step", "bare ms", "% more: min", "median", "max", "ms more: min", "median", "max"]
    table(head, rows)


def mlm(options: Namespace, folder: Path) -> None:
    """Masked language modelling against transformers' BertForMaskedLM of the same sizes."""
    against_transformers(options, folder, BERT)


def clm(options: Namespace, folder: Path) -> None:
    """Causal language modelling against transformers' GPT2LMHeadModel of the same sizes, and against nanoGPT."""
    against_transformers(options, folder, GPT)
    if options.nanogpt:
        peers = {"nanoGPT": ["nanogpt", str(options.nanogpt), *NANOGPT.split(), f"--out_dir={folder / 'nanogpt'}"]}
        against(options, folder, CHARACTERS, peers)
        sooner(options, folder, peers)


def sooner(options: Namespace, folder: Path, peers: dict[str, list[str]]) -> None:
    """Time of the steps until nanoGPT's final loss: nanoGPT's own, and those of shakespeare_char_fast, which ends below it."""
    turns = interleave({"ptft": ["ptft", *settings(options, folder, SOONER)]} | peers, budget(options, 60), folder, equal=False)
    steps = {"ptft": SOONER_STEPS, "nanoGPT": NANOGPT_STEPS}
    seconds = {name: [steps[name] * turn["seconds"] / turn["steps"] for turn in told] for name, told in turns.items()}
    faster = [theirs / ours for theirs, ours in zip(seconds["nanoGPT"], seconds["ptft"], strict=True)]
    rows = [[name, steps[name], f"{statistics.median(seconds[name]):.1f}"] for name in steps]
    rows = [[*rows[0], "", "", ""], [*rows[1], *spread(faster)]]
    table(["until nanoGPT's final loss", "steps", "seconds of steps", "ptft is faster: min", "median", "max"], rows)


def against_transformers(options: Namespace, folder: Path, words: str) -> None:
    peers = {
        "transformers, bare loop": ["hf-bare", *settings(options, folder, words)],
        "transformers, Trainer": ["hf-trainer", *settings(options, folder, words)],
    }
    against(options, folder, words, peers)


def against(options: Namespace, folder: Path, words: str, peers: dict[str, list[str]]) -> None:
    sides = {"ptft": words, "ptft, trainer.compile=true": f"{words} trainer.compile=true"}
    sides = {name: ["ptft", *settings(options, folder, words)] for name, words in sides.items()}
    turns = interleave(sides | peers, budget(options, 60), folder)
    tokens, rows = turns["ptft"][0]["tokens"], []
    for name, told in turns.items():
        rate = statistics.median(turn["steps"] * tokens / turn["seconds"] for turn in told)
        faster = spread(ratios(told, turns["ptft"]))
        rows.append([name, f"{rate:,.0f}", *faster, f"{told[-1]['loss']:.3f}"])
    done = 2 * WARM + sum(turn["steps"] for turn in turns["ptft"])
    table(["", "tokens/s", "ptft is faster: min", "median", "max", f"training loss at step {done}"], rows)


def resnet(options: Namespace, folder: Path) -> None:
    """ResNet-18 on images of 32 x 32, with labels and as SimCLR, against other libraries on the same network."""
    import numpy as np

    random, count = np.random.default_rng(0), 256 if options.quick else 4096
    images = random.integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)
    np.savez(folder / "images.npz", images=images, labels=np.arange(count) % 10)
    network = "model.width=8 trainer.batch_size=16" if options.quick else "trainer.batch_size=128"
    rest = f"model=resnet18 model.stem=small dataset=image_arrays dataset.path={folder / 'images.npz'} {network} {FLAT}"
    cases = {
        "classes": (f"objective=classify optimizer=sgd {rest}", "torchvision"),
        "SimCLR": (f"objective=contrastive objective.probe=null objective.hidden=512 optimizer=sgd {rest}", "lightly"),
    }
    rows = []
    for name, (words, peer) in cases.items():
        there = find_spec(peer) is not None
        sides = {"ptft": "loop"} | ({peer: peer} if there else {})
        whole = Namespace(quick=False)  # a small network is asked for in words
        sides = {label: [side, *settings(whole, folder, words)] for label, side in sides.items()}
        turns = interleave(sides, budget(options, 120), folder)
        rate = statistics.median(turn["steps"] * turn["samples"] / turn["seconds"] for turn in turns["ptft"])
        over = [100 * (turn["seconds"] / turn["bare"] - 1) for turn in turns["ptft"]]
        share = [100 * turn["data"] / turn["seconds"] for turn in turns["ptft"]]
        faster = spread(ratios(turns[peer], turns["ptft"])) if there else ["not installed", "", ""]
        medians = [f"{statistics.median(values):.1f}" for values in (over, share)]
        rows.append([name, f"{rate:,.0f}", *medians, peer, *faster])
    head = ["", "images/s", "% over a bare loop", "% of the step is data", "against", "ptft is faster: min", "median", "max"]
    table(head, rows)


def peak(options: Namespace, folder: Path) -> None:
    """Floating-point operations of training as a share of what matrix products alone reach."""
    rows = []
    cases = [("shakespeare_char", CHARACTERS), ("6x384, 64x256", LARGER), ("MLM 4x256, 32x128", BERT)]
    for (precision, dtype), (name, words) in itertools.product(precisions(), cases):
        ours = settings(options, folder, f"{words} trainer.precision={precision}")
        sides = {"ptft": ["ptft", *ours], "gemm": ["gemm", "1024", dtype]}
        rows.append([name, precision, *_peak_row(interleave(sides, budget(options, 15), folder, equal=False))])
    table(["", "precision", "tokens/s", "GFLOP/s", "GEMM GFLOP/s", "% of it: min", "median", "max"], rows)


def _peak_row(turns: dict[str, list[dict]]) -> list[str]:
    ours, best = ([turn["steps"] * turn["flops"] / turn["seconds"] / 1e9 for turn in turns[name]] for name in ("ptft", "gemm"))
    tokens = statistics.median(turn["steps"] * turn["tokens"] / turn["seconds"] for turn in turns["ptft"])
    shares = [100 * our / top for our, top in zip(ours, best, strict=True)]
    return [f"{tokens:,.0f}", f"{statistics.median(ours):.0f}", f"{statistics.median(best):.0f}", *spread(shares, ".0f")]


def precisions() -> list[tuple[str, str]]:
    """Those the machine multiplies in."""
    import torch

    from ptft.machine import pick_precision

    found = [("fp32", "float32")]
    return [*found, ("bf16", "bfloat16")] if pick_precision("auto", torch.device("cpu")) == "bf16" else found


def data(options: Namespace, folder: Path) -> None:
    """How much of a step goes into making its batch."""
    rows = []
    for name, words in {"ptft pretrain": DEFAULT, "shakespeare_char": CHARACTERS, "4x256, 32x128": BERT}.items():
        side = {name: ["ptft", *settings(options, folder, words)]}
        turns = interleave(side, budget(options, 15), folder)[name]
        step = statistics.median(turn["seconds"] / turn["steps"] for turn in turns) * 1000
        rows.append([name, f"{step:.1f}", *spread(100 * turn["data"] / turn["seconds"] for turn in turns)])
    table(["", "ms a step", "% data: min", "median", "max"], rows)


def settings(options: Namespace, folder: Path, words: str, quick: str = SMALL) -> list[str]:
    """The settings of one side: the last of several for the same key, and a run folder of its own."""
    quick = quick if options.quick else ""
    run = f"run={folder / 'runs' / str(next(NUMBERS))}"
    return list({word.partition("=")[0]: word for word in [*words.split(), *quick.split(), run]}.values())


def budget(options: Namespace, seconds: float) -> float:
    """How long to measure; what starts each side comes on top."""
    return 0 if options.quick else seconds
