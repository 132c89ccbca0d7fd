"""Sweeps: each job leaves a result.json, and the sweep ends with a ranked table, whichever jobs failed."""

from __future__ import annotations

import contextlib
import csv
import json
import math
import shlex
import statistics
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ptft.terminal import Terminal, tell

SEED = "seed"


@dataclass
class Setting:
    """Jobs that differ in their seed only, with the score they share."""

    swept: dict[str, str]
    jobs: list[dict[str, Any]]
    sign: int  # -1 where a higher score is better

    @property
    def mean(self) -> float:
        return statistics.fmean(job["value"] for job in self.jobs)

    @property
    def deviation(self) -> float | None:
        """The standard deviation over seeds; None for a single one."""
        return statistics.stdev(job["value"] for job in self.jobs) if len(self.jobs) > 1 else None

    @property
    def best(self) -> dict[str, Any]:
        return min(self.jobs, key=lambda job: self.sign * job["value"])


def record(folder: Path, overrides: list[str], score: tuple | None, error: str | None) -> None:
    """Write the outcome of a job; error says why it failed.

    score: its name, its value and whether lower is better (left out: by its name), or None.
    """
    name, value, *lower = score or (None, None)
    result = {"status": "failed" if error else "ok", "score": name, "value": value, "lower": _is_lower(name, *lower)}
    result.update(overrides=overrides, error=error)
    folder.mkdir(parents=True, exist_ok=True)
    temporary = folder / "result.json.part"
    temporary.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    temporary.replace(folder / "result.json")


def _is_lower(name: str | None, said: bool | None = None) -> bool | None:
    """Whether a low score is a good one; None where there is no score."""
    if name is None or said is not None:
        return said
    from ptft.metrics import lower_is_better

    return lower_is_better(name)


def tidy(folder: Path) -> None:
    """Remove what Hydra notes about a sweep (each run's config.yaml says more), and the folders where no job began."""
    (folder / "multirun.yaml").unlink(missing_ok=True)
    with contextlib.suppress(OSError):  # they are not empty
        folder.rmdir()
        Path("sweeps").rmdir()


def summarise(folder: Path, command: str, flags: list[str]) -> int:
    """Print and save the table of a sweep; returns the exit code: 1 where a job failed. flags: typed beside the settings."""
    jobs, terminal = _read(folder), Terminal()
    ranked = rank(jobs)
    failed = [job for job in jobs if job["status"] != "ok"]
    again = shlex.join(["ptft", command, *flags, *ranked[0].best["overrides"]]) if ranked else None
    rows = [_row(place, setting) for place, setting in enumerate(ranked, start=1)]
    if rows or failed:
        swept = _swept(jobs)
        _save(folder, [*rows, *(_failure(job, swept) for job in failed)], again)
    if again:
        terminal.table(_readable({name: value for name, value in row.items() if name != "status"}) for row in rows)
        terminal.line(f"saved in {folder}/summary.csv and summary.md; the best again:")
        terminal.line(again)
    for job in failed:
        terminal.line(f"failed: job {job['number']} ({' '.join(job['overrides'])}): {job['error']}")
    return 1 if failed else 0


def _read(folder: Path) -> list[dict[str, Any]]:
    """The outcomes of the jobs, in the order in which they ran."""
    found = sorted(folder.glob("*/result.json"), key=lambda path: int(path.parent.name))
    return [{**json.loads(path.read_text(encoding="utf-8")), "number": path.parent.name} for path in found]


def rank(jobs: list[dict[str, Any]]) -> list[Setting]:
    """The settings a sweep compared, best mean score first; jobs without a score are left out."""
    scored = [job for job in jobs if job["value"] is not None and math.isfinite(job["value"])]
    if not scored:
        return []
    sign = 1 if scored[0]["lower"] else -1
    swept = _swept(jobs)
    settings: dict[tuple[str, ...], Setting] = {}
    for job in scored:
        given = _given(job)
        values = {key: given.get(key, "") for key in swept}
        settings.setdefault(tuple(values.values()), Setting(values, [], sign)).jobs.append(job)
    return sorted(settings.values(), key=lambda setting: sign * setting.mean)


def _given(job: dict[str, Any]) -> dict[str, str]:
    return dict(word.partition("=")[::2] for word in job["overrides"])


def _swept(jobs: list[dict[str, Any]]) -> list[str]:
    """The settings that differ between jobs, other than the seed."""
    given = [_given(job) for job in jobs]
    keys = dict.fromkeys(key for settings in given for key in settings)
    return [key for key in keys if key != SEED and len({settings.get(key) for settings in given}) > 1]


def _row(place: int, setting: Setting) -> dict[str, Any]:
    """A line of the table, as numbers."""
    scores = {setting.jobs[0]["score"]: setting.mean, "std": setting.deviation, "seeds": len(setting.jobs)}
    return {"rank": place, **setting.swept, **scores, "jobs": " ".join(job["number"] for job in setting.jobs), "status": "ok"}


def _failure(job: dict[str, Any], swept: list[str]) -> dict[str, str]:
    """The line of a job that has no place: its settings, and why it failed."""
    given = _given(job)
    settings = {key: given.get(key, "") for key in swept}
    return {**settings, "jobs": job["number"], "status": "failed", "error": " ".join(job["error"].split())}


def _readable(row: dict[str, Any]) -> dict[str, str]:
    """The same line for people: the mean with its spread, the way a paper gives it."""
    if "std" not in row:
        return row
    spread = row["std"]
    cells = {name: value if isinstance(value, str) else tell(value, name) for name, value in row.items() if name != "std"}
    score = list(row)[list(row).index("std") - 1]
    return {**cells, score: cells[score] + ("" if spread is None else f" ± {tell(spread)}")}


def _save(folder: Path, rows: list[dict[str, Any]], again: str | None) -> None:
    """Keep the table as numbers in summary.csv, and to be read in summary.md. again: the command of the best, if any."""
    with open(folder / "summary.csv", "w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, dict.fromkeys([*_names(rows), "error"]), restval="")
        writer.writeheader()
        writer.writerows(rows)
    readable = [_readable(row) for row in rows]
    names = _names(readable)
    table = [names, ["---"] * len(names), *([row.get(name, "") for name in names] for row in readable)]
    text = "\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in table)
    last = f"\nThe best again: `{again}`\n" if again else ""
    (folder / "summary.md").write_text(f"{text}\n{last}", encoding="utf-8")


def _names(rows: list[dict[str, Any]]) -> list[str]:
    """The columns of all lines."""
    return list(dict.fromkeys(name for row in rows for name in row))
