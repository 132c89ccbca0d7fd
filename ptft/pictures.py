"""Pictures of a run as PNG files: its curves, its confusion matrix, its schedule.

Matplotlib is imported when one is drawn.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ptft.durable import refusals, replace
from ptft.lettering import legible
from ptft.records import Row, current, curve

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

TRAIN, VALID, SCORE, RATE, INK, GRID = "#7aa6d6", "#c8453b", "#2f7f5f", "#8a6fb0", "#333333", "#e4e4e4"
VEIL = {"facecolor": "white", "edgecolor": "none", "framealpha": 0.8}  # a legend can be read where a curve runs below it
SMOOTH_FROM = 60  # points, from which the training loss is drawn smoothed over its raw self
MOST_COUNTED_CLASSES, MOST_FILLED_CLASSES, MOST_NAMED_CLASSES = 12, 25, 60
LOG_SCALE_FROM = 20  # ratio of the largest to the smallest loss


def curves(rows: list[Row], path: str | Path, score: str | None = None, title: str = "") -> Path:
    """Draw loss, score and learning rate against the step.

    rows: those of metrics.jsonl (superseded ones are left out here). score: what chose the best weights; it gets a
    panel of its own unless it is the loss.
    """
    rows = current(rows)
    scored = bool(score) and score != "loss" and bool(curve(rows, "valid", score)[0])
    heights = [4, 2.2, 1] if scored else [4, 1]
    figure = _figure(9, 6.6 if scored else 5.2)
    panels = figure.subplots(len(heights), 1, sharex=True, height_ratios=heights, squeeze=False)[:, 0]
    _draw_loss(panels[0], rows)
    if scored:
        _draw_score(panels[1], rows, score)
    steps, rates = curve(rows, "train", "lr")
    panels[-1].plot(steps, rates, color=RATE, **_stroke(steps, 1.4))
    panels[-1].set_ylim(bottom=0)
    panels[-1].set_ylabel("learning\nrate")
    panels[-1].ticklabel_format(axis="y", style="sci", scilimits=(-2, 3))
    panels[-1].set_xlabel("step")
    for panel in panels:
        _plain(panel)
    figure.align_ylabels(panels)
    (shown,), fonts = legible([title], longest=80)
    panels[0].set_title(shown, loc="left", fontsize=12, color=INK, parse_math=False, fontfamily=fonts)
    return _save(figure, path)


def _draw_loss(axes: Axes, rows: list[Row]) -> None:
    steps, losses = curve(rows, "train", "loss")
    if len(steps) >= SMOOTH_FROM:
        axes.plot(steps, losses, color=TRAIN, linewidth=0.8, alpha=0.35)
        axes.plot(steps, _smooth(losses), color=TRAIN, linewidth=1.8, label="train (smoothed)")
    elif steps:
        axes.plot(steps, losses, color=TRAIN, label="train", **_stroke(steps))
    evaluated, valid = curve(rows, "valid", "loss")
    if valid:
        best = int(np.argmin(valid))
        axes.plot(evaluated[best], valid[best], marker="o", markersize=10, markerfacecolor="none", color=VALID)
    _draw_evaluations(axes, rows, "loss", VALID)
    shown = [*losses, *valid]
    if shown and min(shown) > 0 and max(shown) > LOG_SCALE_FROM * min(shown):
        axes.set_yscale("log")
    axes.set_ylabel("loss")
    if shown:
        axes.legend(loc="upper right", labelcolor=INK, **VEIL)


def _draw_score(axes: Axes, rows: list[Row], score: str) -> None:
    _draw_evaluations(axes, rows, score, SCORE)
    axes.margins(y=0.12)
    axes.set_ylabel(score.replace("_", " "))
    axes.legend(loc="best", labelcolor=INK, **VEIL)


def _draw_evaluations(axes: Axes, rows: list[Row], name: str, color: str) -> None:
    """One number on valid, on valid with averaged weights, and, at the end, on test."""
    styles = {
        "valid": {"color": color, "linewidth": 1.8, "marker": "o", "markersize": 4},
        "valid_ema": {"color": color, "linewidth": 1.4, "linestyle": "--"},
        "final_test": {"color": INK, "linestyle": "", "marker": "*", "markersize": 12},
    }
    for split, style in styles.items():
        steps, values = curve(rows, split, name)
        if values:
            axes.plot(steps, values, label=_legend(split, name, steps, values), **style)


def _legend(split: str, name: str, steps: list[int], values: list[float]) -> str:
    if split == "final_test":
        return f"test: {values[-1]:.4g}"
    title = "valid, averaged weights" if split == "valid_ema" else split
    index = int(np.argmin(values)) if name == "loss" else len(values) - 1
    word = "lowest " if name == "loss" and len(values) > 1 else ""
    return f"{title}: {word}{values[index]:.4g} at step {steps[index]:,}"


def _stroke(steps: list[int], width: float = 1.8) -> dict[str, Any]:
    """A line, or a dot where there is nothing yet to join."""
    return {"linewidth": width, "marker": "o" if len(steps) == 1 else "", "markersize": 5}


def _smooth(values: Sequence[float]) -> np.ndarray:
    """A centred moving mean over a thirtieth of the curve, narrower towards its ends."""
    reach = max(len(values) // 60, 1)
    sums = np.concatenate([[0.0], np.cumsum(values)])
    index = np.arange(len(values))
    half = np.minimum(np.minimum(index, len(values) - 1 - index), reach)
    return (sums[index + half + 1] - sums[index - half]) / (2 * half + 1)


def confusion(matrix: Any, labels: Sequence[str] | None, path: str | Path) -> Path:
    """Draw a confusion matrix: rows are the true classes, columns the predicted ones.

    matrix: [classes, classes] counts. Colour is the share of its row; cells say that share, and the count, where there
    is room. labels: names in the order of the matrix, or None for numbers.
    """
    counts = np.asarray(matrix, dtype=float)
    classes = len(counts)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    names, fonts = legible([str(name) for name in (range(classes) if labels is None else labels)])
    cell = min(max(0.62, 3.2 / classes), 14 / classes)  # inches
    figure = _figure(cell * classes * 1.15, cell * classes)
    axes = figure.subplots()
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    if classes <= MOST_NAMED_CLASSES:
        _name_classes(axes, names, fonts, size=float(np.clip(cell * 30, 5, 10)))
    size = float(np.clip(cell * 14, 5, 12))
    for row, column in np.ndindex(classes, classes) if classes <= MOST_FILLED_CLASSES else ():
        color = "white" if shares[row, column] > 0.55 else INK
        axes.text(column, row, _cell(counts, shares, row, column), ha="center", va="center", color=color, fontsize=size)
    axes.set_xlabel("predicted")
    axes.set_ylabel("true")
    axes.spines[:].set_visible(False)
    bar = figure.colorbar(image, ax=axes, fraction=0.04, pad=0.03, format=lambda share, _: f"{share:.0%}")
    bar.outline.set_visible(False)
    total = counts.sum()
    title = f"{np.trace(counts) / max(total, 1):.1%} of {total:,.0f} right; colour: share of the row"
    axes.set_title(title, loc="left", fontsize=10, color=INK)
    return _save(figure, path)


def _name_classes(axes: Axes, names: list[str], fonts: list[str], size: float) -> None:
    slanted = len(names) > 6 or max(map(len, names), default=0) > 8
    turn = {"rotation": 45, "ha": "right", "rotation_mode": "anchor"} if slanted else {}
    style = {"fontsize": size, "fontfamily": fonts, "parse_math": False, "color": INK}
    axes.set_xticks(range(len(names)), names, **style, **turn)
    axes.set_yticks(range(len(names)), names, **style)
    axes.tick_params(length=0)


def _cell(counts: np.ndarray, shares: np.ndarray, row: int, column: int) -> str:
    if not counts[row, column]:
        return ""
    share = f"{shares[row, column]:.0%}"
    return f"{share}\n{counts[row, column]:,.0f}" if len(counts) <= MOST_COUNTED_CLASSES else share.rstrip("%")


def schedule(rates: Mapping[str, Sequence[float]], steps: int, path: str | Path) -> Path:
    """Draw what a schedule will do: for each parameter group, its rate at points evenly spaced over the steps."""
    figure = _figure(7, 3)
    axes = figure.subplots()
    names, fonts = legible(list(rates))
    for name, values in zip(names, rates.values(), strict=True):
        axes.plot(np.linspace(0, steps, len(values)), values, linewidth=1.8, label=name)
    axes.set_ylim(bottom=0)
    axes.set_xlabel("step")
    axes.set_ylabel("learning rate")
    axes.ticklabel_format(axis="y", style="sci", scilimits=(-2, 3))
    _plain(axes)
    if len(rates) > 1:
        axes.legend(frameon=False, labelcolor=INK, prop={"family": fonts})
    return _save(figure, path)


def climb(rates: Sequence[float], losses: Sequence[float], suggested: Mapping[str, float], path: str | Path) -> Path:
    """Draw the loss against a rate that grew, with the rates that it suggests."""
    figure = _figure(7, 4)
    axes = figure.subplots()
    axes.plot(rates, losses, color=TRAIN, linewidth=1.8)
    for (name, rate), color in zip(suggested.items(), (VALID, SCORE), strict=True):
        axes.axvline(rate, color=color, linewidth=1.2, linestyle="--", label=f"{name}: {rate:.1e}")
    axes.set_xscale("log")
    axes.set_xlabel("learning rate")
    axes.set_ylabel("loss (smoothed)")
    _plain(axes)
    axes.legend(frameon=False, labelcolor=INK)
    return _save(figure, path)


def _figure(width: float, height: float) -> Figure:
    """A figure of its own, outside pyplot's global list of them."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def _plain(axes: Axes) -> None:
    """Leave only what carries numbers."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color("#bbbbbb")
    axes.tick_params(colors=INK, labelsize=9)
    axes.grid(color=GRID, linewidth=0.7)
    axes.set_axisbelow(True)


def _save(figure: Figure, path: str | Path) -> Path:
    """Write the PNG under another name first, so that a reader never sees half of it."""
    path = Path(path)
    drawn = io.BytesIO()
    figure.savefig(drawn, format="png", dpi=130, bbox_inches="tight", pad_inches=0.15)
    with refusals(path):
        replace(path, drawn.getvalue())
    return path
