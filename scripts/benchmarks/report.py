"""Numbers of a benchmark as a Markdown table."""

from __future__ import annotations

import platform
import shlex
import statistics
import sys
from collections.abc import Iterable, Sequence


def spread(values: Iterable[float], form: str = ".2f") -> list[str]:
    """Minimum, median and maximum, as text."""
    values = list(values)
    return [f"{pick(values):{form}}" for pick in (min, statistics.median, max)]


def ratios(those: Sequence[dict], ours: Sequence[dict], key: str = "seconds") -> list[float]:
    """How many times as long their turns took as ours beside them."""
    return [their[key] / our[key] for their, our in zip(those, ours, strict=True)]


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print a table, and the command and machine it came from."""
    print()
    for row in (head, ["---"] * len(head), *rows):
        print("|", " | ".join(map(str, row)), "|")
    print(f"\n`{shlex.join(['scripts/benchmark', *sys.argv[1:]])}` on {machine()}", flush=True)


def machine() -> str:
    import torch

    capability = torch.backends.cpu.get_cpu_capability()
    return f"{platform.machine()} ({capability}), {torch.get_num_threads()} threads, torch {torch.__version__}"
