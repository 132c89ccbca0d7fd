"""The single training loop: pretraining and fine-tuning are this function with other arguments.

until the last step: evaluate if due -> save if due -> set the rate -> micro-batches forward and backward
                     -> divide by the count, clip -> optimizer step -> log if due -> look at the health if due
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import torch
from torch import Tensor

from ptft.errors import Diverged, MachineError, Stopped, nearest
from ptft.machine import autocast
from ptft.metrics import lower_is_better
from ptft.objective import Batch, Objective, checked, checked_means, compared
from ptft.randomness import key

BAD_STEPS_ALLOWED = 3
PROBED = 64  # rows that looks at the health are taken on


@dataclass
class Evaluation:
    """What one pass over a split says: scores by name, tables (confusion matrix), lines and pictures of the model at work.

    A table whose metric has `names` maps these to numbers. warnings: what the scores say must not go unnoticed.
    """

    scores: dict[str, float]
    tables: dict[str, Any] = field(default_factory=dict)
    samples: list[str] = field(default_factory=list)
    pictures: dict[str, Tensor] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)


class _StopRequested(Exception):
    """A signal came while a split was being evaluated."""


def fit(training, train, valid, schedule, run, settings) -> None:
    """Train to `settings.steps`, evaluating, logging and saving on the way.

    training: objective, optimizer, tuning, average, scaler and progress, with capture() and restore(). train, valid: Loaders
    (valid may be None). schedule: progress in [0, 1] -> factor on each group's base rate. run: log, save, samples, stop.
    settings: the trainer's, durations in steps. Raises Diverged, Stopped.
    """
    progress, objective = training.progress, training.objective
    forward = torch.compile(objective) if settings.compile else objective
    batches = train.batches(progress.samples)
    training.tuning.train_mode(objective)
    while True:
        known = progress.best, progress.best_loss
        better = _evaluate_if_due(training, valid, run, settings)
        if not _save_if_due(training, run, settings, better):
            progress.best, progress.best_loss = known
        if progress.step >= settings.steps or _out_of_patience(progress, run, settings):
            break
        _step(training, forward, batches, train, schedule, run, settings)
    if progress.saved < progress.step:
        _save(training, run, best=better)


def share_done(progress, settings) -> float:
    """How much of the run is done: of its rows where epochs are counted, so that it goes on from there in other batches."""
    return progress.samples / settings.rows if settings.rows else progress.step / settings.steps


def _step(training, forward, batches: Iterator[Batch], train, schedule, run, settings) -> None:
    """One optimizer update, or none where its gradient is not finite."""
    progress = training.progress
    fraction = share_done(progress, settings)
    seed_step(settings.seed, "step", progress.step)
    training.set_rates(schedule(fraction), fraction)
    training.tuning.advance(fraction)
    loss, count, parts = _accumulate(training, forward, islice(batches, settings.accumulate), settings)
    norm = _finish_gradients(training, 1.0 if training.objective.summed else count, settings)
    # a scale that is too large overflows fp16 now and then: the scaler skips the step and lowers it
    overflow = training.scaler and training.scaler.get_scale() >= 1
    if math.isfinite(loss) and (math.isfinite(norm) or overflow):
        _update(training, fraction)
        progress.bad = 0
        progress.loss, progress.count = progress.loss + loss, progress.count + count
    else:
        _not_finite(training, train, run, settings, {"loss": loss, "grad_norm": norm}, parts)
    training.optimizer.zero_grad(set_to_none=True)
    progress.step += 1
    progress.samples += settings.batch_size * settings.accumulate
    if due(settings.log_every, progress.step, settings.steps):
        _log(training, run, norm)
    if settings.health_every and progress.step % settings.health_every == 0:
        _look_at_health(training, train, run, settings)


def _accumulate(training, forward, batches: Iterator[Batch], settings) -> tuple[float, float, list[dict]]:
    """Backpropagate the loss summed over the micro-batches; returns that sum, its number of targets, and what it is made of."""
    device = training.device
    losses, counts, parts = [], [], []
    for batch in training.objective.together(batches):
        batch = move(batch, device)
        with autocast(device, settings.precision):
            output = checked(training.objective, forward(batch))
        loss = training.scaler.scale(output.loss) if training.scaler else output.loss
        loss.backward()
        losses.append(output.loss.detach())
        counts.append(torch.as_tensor(output.count, device=device))
        parts.append(output.means)
        training.progress.tokens += tokens_in(batch)
    return sum(losses).item(), float(sum(counts).item()), parts


def _finish_gradients(training, count: float, settings) -> float:
    """Turn summed gradients into means, clipped together or each; returns the norm of them all before clipping."""
    if training.scaler:
        training.scaler.unscale_(training.optimizer)
    gradients = [changeable(parameter, training.sparse) for parameter in training.parameters if parameter.grad is not None]
    count = max(count, 1)
    norm = torch.nn.utils.get_total_norm(gradients).item() / count
    if settings.clip and settings.clip_each:
        norms = torch._foreach_norm(gradients)
        torch._foreach_mul_(gradients, [(settings.clip / (each / count + 1e-6)).clamp(max=1.0) / count for each in norms])
        return norm
    shrink = min(1.0, settings.clip / (norm + 1e-6)) if settings.clip else 1.0
    torch._foreach_mul_(gradients, shrink / count)
    return norm


def changeable(parameter: Tensor, sparse: bool) -> Tensor:
    """The numbers of a gradient, to be changed in place; of a sparse one, each row once. sparse: whether it may stay so."""
    if not parameter.grad.is_sparse:
        return parameter.grad
    parameter.grad = parameter.grad.coalesce() if sparse else parameter.grad.to_dense()
    return parameter.grad.values() if sparse else parameter.grad


def _update(training, fraction: float) -> None:
    if training.scaler:
        training.scaler.step(training.optimizer)
        training.scaler.update()
    else:
        training.optimizer.step()
    training.objective.after_step(fraction)
    if training.average:
        training.average.update()


def _not_finite(training, train, run, settings, found: dict[str, float], parts: list[dict]) -> None:
    """Report a step whose loss or gradient is not finite, and do what `trainer.nonfinite` says.

    found: its loss and the norm of its gradient. parts: the sums and counts that its micro-batches had beside the loss.
    """
    progress = training.progress
    progress.bad += 1
    if training.scaler:
        training.scaler.update()
    rows = train.rows_at(progress.samples, settings.batch_size * settings.accumulate)
    sums: dict[str, list[float]] = {}
    for means in parts:
        _add(sums, means)
    run.bad_batch(progress.step, rows, found | _means(sums))
    what = f"step {progress.step}: loss {found['loss']:.4g}, gradient norm {found['grad_norm']:.4g} (rows in bad_batches.jsonl)"
    if settings.nonfinite == "stop" or progress.bad >= BAD_STEPS_ALLOWED:
        if run.latest() is None:  # the weights of before this step: it changed none
            with contextlib.suppress(Diverged):  # unless they are not finite either
                _save(training, run, best=False)
        others = "" if settings.nonfinite != "stop" else ", or set trainer.nonfinite=skip or rollback"
        raise Diverged(f"training diverged at {what}; lower optimizer.lr{others}")
    run.note(f"{what}; trainer.nonfinite={settings.nonfinite}")
    if settings.nonfinite == "rollback":
        _roll_back(training, run)


def _roll_back(training, run) -> None:
    """Take weights and optimizer from the last checkpoint, but go on with the data that comes next."""
    latest = run.latest()
    if latest is None:
        raise Diverged("training diverged before its first checkpoint: nothing to roll back to; lower optimizer.lr")
    progress = training.progress
    step, samples, bad = progress.step, progress.samples, progress.bad
    training.restore(latest)
    progress.step, progress.samples, progress.bad = step, samples, bad


def _evaluate_if_due(training, valid, run, settings) -> bool:
    """Evaluate where it is time to; returns whether the weights are the best so far."""
    progress = training.progress
    if not valid or progress.evaluated >= progress.step or not due(settings.eval_every, progress.step, settings.steps):
        return False
    try:
        scores = _evaluate_all(training, valid, run, settings)
    except _StopRequested:
        return False
    progress.evaluated = progress.step
    if settings.best not in scores and not progress.waited:
        run.note(_no_score(settings.best, scores))
    objective, value = training.objective, scores.get(settings.best, math.nan)
    loss = scores.get("loss", math.inf)
    ties = value == progress.best and (loss < progress.best_loss or not objective.loss_ranks)
    better = math.isfinite(value) and (
        progress.best is None or ties or is_better(settings.best, value, progress.best, objective.lower)
    )
    if better:
        progress.best, progress.best_loss = value, loss
    progress.waited = 0 if better else progress.waited + 1
    progress.evaluations.append([share_done(progress, settings), better])
    return better


def _no_score(score: str, scores: dict[str, float]) -> str:
    """What is said where the score that chooses is none of those there are."""
    near = nearest(score, scores)
    said = f"the evaluation gives no '{score}' to choose the best weights by, only {', '.join(sorted(scores))}"
    return f"{said}{f' (did you mean {near}?)' if near else ''}; those of the last step are kept"


def _evaluate_all(training, valid, run, settings) -> dict[str, float]:
    """Score the weights, and their running average beside them, on the validation split; a stop leaves no half of it."""
    objective = training.objective
    found: dict[str, Evaluation] = {}
    with run.pause():
        found["valid"] = evaluate(objective, valid, settings, stop=lambda: run.stop)
        if training.average:
            with training.average.swap():
                found["valid_ema"] = evaluate(objective, valid, settings, stop=lambda: run.stop)
    for split, evaluation in found.items():
        run.evaluated(training.progress.step, split, evaluation)
    training.tuning.train_mode(objective)
    return found["valid"].scores


@torch.no_grad()
def evaluate(
    objective: Objective, loader, settings, stop: Callable[[], bool] = lambda: False, limit: bool = True
) -> Evaluation:
    """Score one split: means over all its targets, dataset-level metrics, and samples from its first batch.

    limit: look only at the first `settings.eval_batches` batches, where that is set.
    """
    objective.eval()
    objective.thorough, objective.evaluated = not limit, loader.rows
    device = next(objective.parameters()).device
    seed_step(settings.seed, "evaluate")
    sums: dict[str, list[float]] = {}
    metrics = {name: metric.to(device) for name, metric in objective.metrics().items()}
    samples, pictures = [], {}
    for index, batch in enumerate(islice(loader.epoch(), settings.eval_batches if limit else None)):
        if stop():
            raise _StopRequested
        batch = move(batch, device)
        with autocast(device, settings.precision):
            output = checked(objective, objective(batch))
        _add(sums, {"loss": (output.loss, output.count), **checked_means(objective, output)})
        for metric in metrics.values():
            metric.update(*compared(objective, output))
        if index == 0 and settings.samples:
            samples, pictures = objective.samples(batch, output)[: settings.samples], objective.pictures(batch, output)
    scores, tables = _scores(objective, _means(sums), metrics)
    return Evaluation(scores, tables, samples, pictures, objective.warnings(scores))


def _add(sums: dict[str, list[float]], means: dict[str, tuple[Tensor, Tensor]]) -> None:
    """Add a batch's sums and counts in float64."""
    for name, (total, count) in means.items():
        entry = sums.setdefault(name, [0.0, 0.0])
        entry[0] += float(torch.as_tensor(total).detach())
        entry[1] += float(count)


def _means(sums: dict[str, list[float]]) -> dict[str, float]:
    """Sums by their counts."""
    return {name: total / count if count else math.nan for name, (total, count) in sums.items()}


def _scores(objective: Objective, means: dict[str, float], metrics: dict) -> tuple[dict[str, float], dict[str, Any]]:
    """What was measured, as numbers and as tables."""
    scores = {**means, **objective.scores(means)}
    tables = {}
    for name, metric in metrics.items():
        value = metric.compute()
        if value.ndim == 0:
            scores[name] = float(value)
        else:
            names = getattr(metric, "names", None)  # of what is not classes
            tables[name] = value.cpu().numpy() if names is None else dict(zip(names, value.tolist(), strict=True))
    return scores, tables


@torch.no_grad()
def _look_at_health(training, train, run, settings) -> None:
    """Measure whether what is learned is alive, always on the same few training rows, as an evaluation sees them."""
    objective, progress = training.objective, training.progress
    metrics = objective.health()
    if not metrics:
        return
    objective.eval()
    with run.pause(), autocast(training.device, settings.precision):
        output = checked(objective, objective(move(train.some(PROBED), training.device)))
        for metric in metrics.values():
            metric.update(*compared(objective, output))
    training.tuning.train_mode(objective)
    scores = {"loss": output.loss / output.count, **{name: metric.compute() for name, metric in metrics.items()}}
    scores = {name: score.item() for name, score in scores.items()}
    run.log(progress.step, "health", scores)
    alarms = objective.warnings(scores)
    for text in alarms if not progress.ailing else []:
        run.note(f"step {progress.step}: {text}")
    progress.ailing = bool(alarms)


def _save_if_due(training, run, settings, better: bool) -> bool:
    """Save where it is time to, where the weights are the best so far, or where a signal asks to stop.

    Returns whether what was to be saved is: with trainer.on_save_error=warn the disk may refuse all but a run's last save.
    """
    progress = training.progress
    wanted = progress.step > progress.saved and (
        due(settings.save_every, progress.step, settings.steps) or run.minutes_since_save() >= settings.save_minutes
    )
    saved = True
    if wanted or better or run.stop:
        more = progress.step < settings.steps and not run.stop  # so that another save comes
        saved = _save(training, run, better, forgiving=more and settings.on_save_error == "warn")
    if run.stop:
        raise Stopped(f"stopped by {run.stop} after step {progress.step}: saved; run the same command with resume=auto")
    return saved


def _save(training, run, best: bool, forgiving: bool = False) -> bool:
    """Save; returns whether that went well, where an error is not the end."""
    progress = training.progress
    before, progress.saved = progress.saved, progress.step
    tensors, state = training.capture()
    try:
        run.save(progress.step, tensors, state, best)
    except MachineError as error:
        if not forgiving:
            raise
        progress.saved = before
        run.note(f"step {progress.step} is not saved, training goes on (trainer.on_save_error=warn): {error}")
    return progress.saved == progress.step


def _out_of_patience(progress, run, settings) -> bool:
    if not settings.patience or progress.waited < settings.patience:
        return False
    run.note(f"stopped early at step {progress.step}: {progress.waited} evaluations without a better {settings.best}")
    return True


def _log(training, run, norm: float) -> None:
    """One line: the mean loss since the last line, the rate, the gradient norm."""
    progress = training.progress
    rate = max(group["lr"] for group in training.optimizer.param_groups)
    loss = progress.loss / progress.count if progress.count else math.nan
    seen = {"tokens": progress.tokens} if progress.tokens else {"samples": progress.samples}
    run.log(progress.step, "train", {"loss": loss, "lr": rate, "grad_norm": norm, **seen})
    progress.loss = progress.count = 0.0


def is_better(score: str, value: float, than: float, lower: Collection[str] = ()) -> bool:
    """Whether `value` of `score` beats another. lower: the objective's own scores that are better when lower."""
    return value < than if lower_is_better(score, lower) else value > than


def due(every: int | None, step: int, last: int) -> bool:
    """Whether something that happens each `every` steps, and after the last one, happens after `step` steps."""
    return step > 0 and (step == last or bool(every and step % every == 0))


def seed_step(seed: int, name: str, step: int = 0) -> None:
    """Make what is drawn next (dropout) a function of the seed and the step, so that no generator needs saving."""
    # torch.manual_seed takes 0.2-0.5 ms to find that there is no accelerator to seed
    everywhere = torch.manual_seed if torch.accelerator.is_available() else torch.default_generator.manual_seed
    everywhere(key(seed, name, step) >> 1)


def move(value: Any, device: torch.device) -> Any:
    """A batch on the device, however its tensors are nested."""
    if isinstance(value, Tensor):
        return value.to(device, non_blocking=True)
    if isinstance(value, dict):
        return {name: move(inner, device) for name, inner in value.items()}
    if isinstance(value, list):
        return [move(inner, device) for inner in value]
    return value


def tokens_in(batch: Batch) -> int:
    """How many tokens a batch feeds the model, padding included."""
    tokens = batch.get("inputs", {}).get("tokens")
    return 0 if tokens is None else tokens.numel()
