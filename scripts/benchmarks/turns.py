"""Two or more processes that work in turns, A B A B, so that a slow minute of the machine slows them all."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import Tensor, nn

BENCHMARK = Path(__file__).parents[1] / "benchmark"
TURN = 0.5  # seconds: long beside a switch, short beside the moods of a machine
WARM = 2  # steps of the two turns before the measured ones


class Turns:
    """A side's own end: it calls `tick` before each step, which waits while it is not this side's turn.

    Standard output becomes the channel to who grants the turns; whatever the side prints goes to standard error.
    """

    def __init__(self) -> None:
        self.answers = os.fdopen(os.dup(1), "w", buffering=1)
        os.dup2(2, 1)
        self.left: int | None = None
        self.began = 0.0
        self.losses: list[Tensor | float] = []
        self.facts: dict[str, Any] = {}  # what else this side has to say of the turn
        self.between: Callable[[int], dict[str, Any]] | None = None  # done after a turn, outside its time

    def tick(self) -> None:
        """Before a step: go on within a turn; at its end tell how long it took, and wait for the next."""
        if not self.left:
            self.tell(time.perf_counter() - self.began)
            granted = sys.stdin.readline()
            if not granted:
                raise SystemExit(0)
            self.left = self.granted = int(granted)
            self.losses.clear()
            self.began = time.perf_counter()
        self.left -= 1

    def tell(self, seconds: float) -> None:
        if self.left is None:
            facts = {"ready": True}
        else:
            losses = [float(loss) for loss in self.losses]
            facts = {"seconds": seconds, "loss": sum(losses) / max(len(losses), 1)}
            if self.between:
                facts.update(self.between(self.granted))
        self.answers.write(json.dumps({**facts, **self.facts}) + "\n")

    def watch(self, module: nn.Module, loss: Callable[[Any], Tensor]) -> None:
        """Keep the loss of every forward in training of `module`, found in its output by `loss`."""
        module.register_forward_hook(lambda _, __, output: self.losses.append(loss(output).detach()))


class Side:
    """The other end: a process that is granted turns."""

    def __init__(self, words: list[str], folder: Path):
        self.log = folder / f"{words[0]}-{len(list(folder.iterdir()))}.log"
        environment = {**os.environ, "PTFT_CACHE": str(folder / "cache")}
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, str(BENCHMARK), "side", *words],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env=environment,
            )
        self.facts = self.answer()

    def answer(self) -> dict[str, Any]:
        line = self.process.stdout.readline()
        if not line:
            sys.exit(f"a side ended early (exit {self.process.wait()}):\n{self.log.read_text()[-3000:]}")
        return json.loads(line)

    def turn(self, steps: int) -> dict[str, Any]:
        self.process.stdin.write(f"{steps}\n")
        self.process.stdin.flush()
        return self.answer()

    def close(self) -> None:
        self.process.stdin.close()
        self.process.wait()


def interleave(sides: dict[str, list[str]], seconds: float, folder: Path, equal: bool = True) -> dict[str, list[dict]]:
    """Let sides, each given by its words, take turns for so many seconds; returns what each told of each of its turns.

    Turns take about TURN seconds. equal: all sides do as many steps a turn as the slowest of them can.
    """
    running = {name: Side(words, folder) for name, words in sides.items()}
    warm = {name: [side.turn(WARM) for _ in range(2)][1]["seconds"] / WARM for name, side in running.items()}
    steps = {name: max(1, round(TURN / (max(warm.values()) if equal else warm[name]))) for name in sides}
    told: dict[str, list[dict]] = {name: [] for name in sides}
    until = time.monotonic() + seconds
    while time.monotonic() < until or not all(told.values()):
        for name, side in running.items():
            told[name].append(side.turn(steps[name]) | {"steps": steps[name]})
    for side in running.values():
        side.close()
    return told
