"""The processes that `turns` lets work: ptft as a user starts it, its objective in a bare loop, and its peers.

Peers of ptft start as ptft does, so that they train on the rows, tokenizer and sizes of that configuration; where ptft
would begin to train, they take over.
"""

from __future__ import annotations

import itertools
import os
import re
import runpy
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import nn

from benchmarks import image_sides
from benchmarks.turns import Turns
from ptft import machine
from ptft.app import run as run_command
from ptft.commands import train as training_command
from ptft.loop import fit


class Watched:
    """A loader that ticks before each batch, and measures how long batches take to make."""

    def __init__(self, loader: Any, turns: Turns):
        self.loader, self.turns = loader, turns

    def batches(self, start: int) -> Iterator[dict]:
        source = self.loader.batches(start)
        while True:
            self.turns.tick()
            if self.turns.left == self.turns.granted - 1:
                self.turns.facts["data"] = 0.0
            before = time.perf_counter()
            batch = next(source)
            self.turns.facts["data"] += time.perf_counter() - before
            yield batch

    def some(self, count: int) -> dict:
        return self.loader.some(count)


def ptft(turns: Turns, words: list[str]) -> None:
    """`ptft pretrain words...`: the whole command but for evaluations and saves."""

    def go(training, train, valid, schedule, run, settings) -> None:
        turns.facts.update(counted(training.objective, next(train.batches(0))))
        turns.watch(training.objective, lambda output: output.loss / output.count)
        fit(training, Watched(train, turns), None, schedule, run, settings)

    pretrain(go, words)


def loop(turns: Turns, words: list[str]) -> None:
    """The same, and after each turn as many steps of the same objects in a bare loop, told as `bare`."""

    def go(training, train, valid, schedule, run, settings) -> None:
        batches = train.batches(0)
        turns.facts["samples"] = settings.batch_size

        def bare(steps: int) -> dict[str, float]:
            began = time.perf_counter()
            for _ in range(steps):
                bare_step(training.objective, training.optimizer, next(batches), settings.precision)
            return {"bare": time.perf_counter() - began}

        turns.between = bare
        fit(training, Watched(train, turns), None, schedule, run, settings)

    pretrain(go, words)


def hf_bare(turns: Turns, words: list[str]) -> None:
    """transformers' model of the same sizes, on the same batches, in the loop of a tutorial."""

    def go(training, train, *_) -> None:
        model = hf_model(training.objective)
        turns.watch(model, lambda output: output.loss)
        node = training.optimizer.defaults
        optimizer = torch.optim.AdamW(
            model.parameters(), lr=node["lr"], betas=node["betas"], weight_decay=node["weight_decay"], fused=True
        )
        for batch in Watched(train, turns).batches(0):
            tokens = batch["inputs"]["tokens"]
            labels = torch.full(tokens.shape, -100)
            if "index" in batch:
                labels.view(-1)[batch["index"]] = batch["targets"]
            else:
                labels = tokens  # transformers moves them by one itself
            model(input_ids=tokens, labels=labels).loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()

    pretrain(go, words, keep_memory=False)


def hf_trainer(turns: Turns, words: list[str]) -> None:
    """transformers' Trainer with its collator for language modelling, on the same rows."""
    import transformers

    class Ticks(transformers.TrainerCallback):
        def on_step_begin(self, *_: Any, **__: Any) -> None:
            turns.tick()

    def go(training, train, valid, schedule, run, settings) -> None:
        objective, node = training.objective, training.optimizer.defaults
        model = hf_model(objective)
        turns.watch(model, lambda output: output.loss)
        masked = "bidirectional" in objective.model.traits
        transformers.Trainer(
            model,
            transformers.TrainingArguments(
                output_dir=str(run.folder / "peer"),
                per_device_train_batch_size=settings.batch_size,
                max_steps=settings.steps,
                learning_rate=node["lr"],
                weight_decay=node["weight_decay"],
                adam_beta1=node["betas"][0],
                adam_beta2=node["betas"][1],
                optim="adamw_torch_fused",
                lr_scheduler_type="constant",
                logging_steps=settings.log_every,
                save_strategy="no",
                report_to=[],
                use_cpu=True,
                disable_tqdm=True,
            ),
            train_dataset=HFRows(train.assembly.source, objective.tokenizer, masked),
            data_collator=transformers.DataCollatorForLanguageModeling(hf_tokenizer(objective.tokenizer), mlm=masked),
            callbacks=[Ticks()],
        ).train()

    pretrain(go, words, keep_memory=False)


class HFRows(torch.utils.data.Dataset):
    """Rows of token ids as transformers wants them."""

    def __init__(self, rows: Any, tokenizer: Any, framed: bool):
        self.rows, self.tokenizer, self.framed = rows, tokenizer, framed

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> dict[str, list[int]]:
        ids = self.rows[index]["tokens"].tolist()
        return {"input_ids": [self.tokenizer.cls_id, *ids, self.tokenizer.sep_id] if self.framed else ids}


def hf_tokenizer(tokenizer: Any) -> Any:
    from transformers import PreTrainedTokenizerFast

    names = {f"{name.lower()}_token": f"[{name}]" for name in ("PAD", "CLS", "SEP", "MASK", "UNK")}
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer.backend, **names)


def hf_model(objective: nn.Module) -> nn.Module:
    """BertForMaskedLM or GPT2LMHeadModel of an objective's sizes."""
    import transformers

    model, vocabulary = objective.model, objective.tokenizer.vocab_size
    stack, rate = model.stack, model.stack.dropout
    layers, hidden = len(stack.layers), stack.layers[0].feed_forward.outer.in_features
    if "causal" in model.traits:
        config = transformers.GPT2Config(
            vocab_size=vocabulary, n_positions=model.max_length, n_embd=model.dim, n_layer=layers, n_head=stack.heads,
            n_inner=hidden, resid_pdrop=rate, embd_pdrop=rate, attn_pdrop=rate,
        )  # fmt: skip
        return transformers.GPT2LMHeadModel(config).train()
    config = transformers.BertConfig(
        vocab_size=vocabulary, hidden_size=model.dim, num_hidden_layers=layers, num_attention_heads=stack.heads,
        intermediate_size=hidden, max_position_embeddings=model.max_length,
        hidden_dropout_prob=rate, attention_probs_dropout_prob=rate,
    )  # fmt: skip
    return transformers.BertForMaskedLM(config).train()


def nanogpt(turns: Turns, words: list[str]) -> None:
    """train.py of a nanoGPT checkout as it is; it prints a line after each step, which is where it waits for its turn."""
    checkout, *settings = words

    def listen(*said: Any) -> None:
        if said and str(said[0]).startswith("iter "):
            turns.losses.append(float(str(said[0]).split("loss ")[1].split(",")[0]))
            turns.tick()

    os.chdir(checkout)
    sys.path.insert(0, str(Path(checkout).resolve()))
    sys.argv = ["train.py", *settings]
    runpy.run_path("train.py", init_globals={"print": listen})


def gensim(turns: Turns, words: list[str]) -> None:
    """gensim's compiled inner loop on a text's words, a thousand to a sentence as in word2vec.c, with its usual settings."""
    from gensim.matutils import zeros_aligned
    from gensim.models import Word2Vec
    from gensim.models.word2vec_inner import train_batch_cbow, train_batch_sg

    kind, path = words
    text = Path(path).read_text("utf-8").lower().split()
    sentences = [text[start : start + 1000] for start in range(0, len(text), 1000)]
    model = Word2Vec(vector_size=100, window=5, min_count=5, sg=int(kind == "skipgram"), negative=5, sample=1e-3, workers=1)
    model.build_vocab(sentences)
    room = [zeros_aligned(model.layer1_size, dtype="float32") for _ in range(2)]
    turns.facts["tokens"] = 8 * 1000
    for start in itertools.cycle(range(0, max(len(sentences) - 8, 1), 8)):
        turns.tick()
        if kind == "skipgram":
            train_batch_sg(model, sentences[start : start + 8], 0.01, room[0], False)
        else:
            train_batch_cbow(model, sentences[start : start + 8], 0.01, *room, False)


def word2vec(turns: Turns, words: list[str]) -> None:
    """The original program, a pass over a text for each step; its seconds are those of the rate that it prints."""
    kind, path, program = words
    options = f"-cbow {int(kind == 'cbow')} -size 100 -window 5 -negative 5 -sample 1e-3 -min-count 5 -threads 1 -iter 1"
    counts = Counter(Path(path).read_text("utf-8").split())
    known = sum(count for count in counts.values() if count >= 5)  # its rate does not count the others
    turns.facts["tokens"] = counts.total()
    while True:
        turns.tick()
        said = subprocess.check_output([program, "-train", path, "-output", os.devnull, *options.split()], text=True)
        rates = re.findall(r"Words/thread/sec: ([\d.]+)k", said)
        if not rates:
            sys.exit(f"{program} told no rate: {said}")
        turns.facts["seconds"] = turns.granted * known / (1000 * float(rates[-1]))


def gemm(turns: Turns, words: list[str]) -> None:
    """Products of square matrices, what the machine can do at best: size and dtype."""
    size, dtype = int(words[0]), getattr(torch, words[1])
    one, other = (torch.randn(size, size).to(dtype) for _ in range(2))
    out = torch.empty_like(one)
    turns.facts["flops"] = 2 * size**3
    while True:
        turns.tick()
        torch.mm(one, other, out=out)


def bare_step(objective: nn.Module, optimizer: torch.optim.Optimizer, batch: dict, precision: str) -> None:
    with machine.autocast(torch.device("cpu"), precision):
        output = objective(batch)
    (output.loss / output.count).backward()
    nn.utils.clip_grad_norm_(objective.parameters(), 1.0)
    optimizer.step()
    optimizer.zero_grad()


def counted(objective: nn.Module, batch: dict) -> dict[str, int]:
    """Floating-point operations, forward and backward, and tokens or images of one step."""
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter:
        objective(batch).loss.backward()
    objective.zero_grad()
    inputs = next(iter(batch["inputs"].values()))
    return {"flops": counter.get_total_flops(), "tokens": inputs.numel() if "tokens" in batch["inputs"] else len(inputs)}


def pretrain(go: Any, words: list[str], keep_memory: bool = True) -> None:
    """Run `ptft pretrain words...` with `go` in the place of its loop."""
    if not keep_memory:
        machine.keep_memory = lambda: None
    training_command.fit = go
    sys.exit(run_command("pretrain", ["trainer.save_every=null", *words]))


def lightly(turns: Turns, words: list[str]) -> None:
    """lightly's SimCLR on the images and the network of `ptft pretrain words...`."""
    pretrain(
        lambda training, train, valid, schedule, run, settings: image_sides.lightly(turns, training, train, settings), words
    )


def torchvision(turns: Turns, words: list[str]) -> None:
    """torchvision's transforms and a bare loop on the images and the network of `ptft pretrain words...`."""
    pretrain(
        lambda training, train, valid, schedule, run, settings: image_sides.torchvision(turns, training, train, settings), words
    )


SIDES = {
    "ptft": ptft,
    "loop": loop,
    "hf-bare": hf_bare,
    "hf-trainer": hf_trainer,
    "nanogpt": nanogpt,
    "gensim": gensim,
    "word2vec": word2vec,
    "lightly": lightly,
    "torchvision": torchvision,
    "gemm": gemm,
}


def main(words: list[str]) -> None:
    """Be the side that `words` name, until no more turns are granted."""
    SIDES[words[0]](Turns(), words[1:])
