"""The run folder: who may train in it, from where, and all that training leaves there.

RUN/: .lock run.json config.yaml metrics.jsonl scores.json samples/ tables/ tensorboard/ checkpoints/
"""

from __future__ import annotations

import contextlib
import os
import tempfile
import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from uuid import uuid4

from torch import Tensor

from ptft import checkpoint, resume
from ptft.durable import refusals, replace
from ptft.errors import CheckpointError, DataError, MachineError, UserError
from ptft.events import TensorBoard
from ptft.exactjson import dump
from ptft.journal import Journal, plain
from ptft.lock import Lock
from ptft.logs import Console
from ptft.manifest import newest, read_manifest
from ptft.origin import origin
from ptft.records import holder, read_json
from ptft.retention import point, retire, sweep
from ptft.stopping import StopSignals

MISTAKES = {UserError.exit_code, DataError.exit_code, CheckpointError.exit_code}
BEFORE_THE_FIRST_STEP = {"run.json", "config.yaml", ".lock", "checkpoints"}


class Run:
    """One run in its folder, from `open` to the end of the `with` block; the only one there.

    folder, run_id: where and who. resumed: the checkpoint training continues from, or None; step: its step, or 0.
    assets: what checkpoints carry beside weights: tokenizer.json, labels.json, data.json.
    """

    def __init__(
        self, folder: Path, lock: Lock, config: str, keep_last: int | None, console: Console | None, warns: bool = False
    ):
        self.folder, self.config, self.keep_last, self.console, self.warns = folder, config, keep_last, console, warns
        self.checkpoints = folder / "checkpoints"
        self.run_id = str(uuid4())
        self.identity: dict[str, str] = {}
        self.assets: dict[str, bytes] = {}
        self.resumed: Path | None = None
        self.step = 0
        self._lock = lock
        self._allow: Collection[str] = ()
        self._metrics = Journal(folder / "metrics.jsonl")
        self._bad_batches = Journal(folder / "bad_batches.jsonl")
        self._tensorboard = TensorBoard(folder / "tensorboard")
        self._signals = StopSignals()
        self._saved_at = time.monotonic()
        self._made: list[Path] = []  # folders that there were not before, inner ones first

    @classmethod
    def open(
        cls,
        folder: str | Path,
        config: str,
        argv: Sequence[str] = (),
        *,
        resuming: bool = False,
        allow: Collection[str] = (),
        parent: Path | None = None,
        keep_last: int | None = 2,
        console: Console | None = None,
        warns: bool = False,
    ) -> Run:
        """Take a folder for training, before any data is read.

        config: the YAML saved with every checkpoint. resuming: continue what the folder holds, if anything. allow:
        settings (and "data", "tokenizer") that may differ then. parent: the checkpoint the weights start from.
        keep_last: how many checkpoints stay beside the best one. warns: whether training goes on where the disk refuses
        what it can do without. Raises MachineError (not writable, in use), UserError, CheckpointError.
        """
        folder = Path(folder)
        resume.refuse_foreign(folder)
        made = [path for path in (folder, *folder.parents) if not os.path.exists(path)]
        run = cls(folder, _take(folder), config, keep_last, console, warns)
        run._made = made
        try:
            run._start(argv, resuming, allow, parent)
        except BaseException:
            run.close()
            raise
        return run

    def _start(self, argv: Sequence[str], resuming: bool, allow: Collection[str], parent: Path | None) -> None:
        if resuming:
            self._resume(allow)
        else:
            resume.refuse_reuse(self.folder)
        for folder in (self.folder, self.checkpoints):
            sweep(folder)
        if self.resumed is None:
            replace(self.folder / "run.json", dump(origin(self.run_id, argv, parent)))
        replace(self.folder / "config.yaml", self.config.encode())
        point(self.checkpoints, self.run_id)

    def _resume(self, allow: Collection[str]) -> None:
        """Find the newest whole checkpoint and say what was skipped, what changed, and which metrics no longer hold."""
        known = read_json(self.folder / "run.json").get("run_id")
        self.resumed, faults = resume.where(self.checkpoints, known)
        for fault in faults:
            self.note(f"WARNING: skipped a checkpoint: {fault}")
            self._metrics.append({"skipped": fault})
        if self._metrics.path.exists():
            step = read_manifest(self.resumed)["step"] if self.resumed else -1
            self._metrics.append({"superseded_after": step})
        (self.folder / "scores.json").unlink(missing_ok=True)
        if self.resumed is None:
            return
        manifest = read_manifest(self.resumed)
        self._allow = allow
        self.step, self.identity = manifest["step"], manifest["identity"]
        self.run_id = self.identity["run_id"]
        self._tensorboard = TensorBoard(self.folder / "tensorboard", after=self.step)
        for change in resume.check_config(self.resumed, self.config, allow):
            self.note(f"resumed with {change}")
        now = checkpoint.environment()
        for name, before in manifest["environment"].items():
            if now.get(name) != before:
                self.note(f"resumed with {name} {before} -> {now.get(name)}: the last bits of results may differ")

    def identify(self, **hashes: str) -> None:
        """Say what the run trains on (data=..., tokenizer=...); raises CheckpointError where that changed on resume."""
        if self.resumed:
            resume.check_identity(self.identity, hashes, self._allow)
        self.identity = {**self.identity, "run_id": self.run_id, **hashes}

    def __enter__(self) -> Run:
        self._signals.__enter__()
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        self._signals.__exit__()
        if isinstance(error, UserError) and error.exit_code in MISTAKES:
            self._withdraw()
        self.close()

    def _withdraw(self) -> None:
        """Leave nothing of a run that found a mistake before its first step, in a folder that it made itself."""
        if self.folder not in self._made or {path.name for path in self.folder.iterdir()} - BEFORE_THE_FIRST_STEP:
            return
        with contextlib.suppress(OSError):  # what others have put there stays
            (self.folder / "checkpoints").rmdir()
        for name in BEFORE_THE_FIRST_STEP - {"checkpoints"}:
            (self.folder / name).unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            for folder in self._made:
                folder.rmdir()

    @property
    def stop(self) -> str:
        """The name of the signal that asked the run to stop, or nothing."""
        return self._signals.received

    def close(self) -> None:
        """Let go of the folder."""
        if self.console:
            self.console.close()
        for open_file in (self._metrics, self._bad_batches, self._tensorboard):
            open_file.close()
        self._lock.release()

    def log(self, step: int, split: str, values: Mapping[str, float]) -> None:
        """Write numbers down: metrics.jsonl, TensorBoard, console."""
        if self.console and split == "train":
            values = {**values, **self.console.pace.mark(step, values)}
        with self.forgiving("metrics.jsonl"):
            self._metrics.append({"step": step, "split": split, **values})
        with self.forgiving("tensorboard/"):
            self._tensorboard.scalars(step, split, values)
        if self.console and split == "train":
            self.console.step(step, values)
        elif self.console and split != "health":  # often, and said only where it is bad
            self.console.evaluation(step, split, values)

    def evaluated(self, step: int, split: str, evaluation: Any) -> None:
        """Write an evaluation down: its scores, its samples, and its tables (confusion matrix) as JSON."""
        self.log(step, split, evaluation.scores)
        self.samples(step, evaluation.samples, split)
        if evaluation.pictures:
            self.pictures(step, evaluation.pictures, split)
        for text in evaluation.warnings:
            self.note(f"{split} at step {step}: {text}")
        self.tables(step, evaluation.tables, split)

    def tables(self, step: int, tables: Mapping[str, Any], split: str = "valid") -> None:
        """Keep the tables of the latest evaluation of a split, in place of those of earlier ones."""
        if tables:
            found = {name: table if isinstance(table, dict) else table.tolist() for name, table in tables.items()}
            with self.forgiving("tables/"):
                self.write(f"tables/{split}.json", dump(plain({"step": step, **found})))

    def samples(self, step: int, lines: Sequence[str], split: str = "valid") -> None:
        """Keep and show lines of text that say what the model now does."""
        if not lines:
            return
        with self.forgiving("samples/"):
            self.write(f"samples/step-{step:010d}-{split}.txt", ("\n".join(lines) + "\n").encode())
        if self.console:
            self.console.samples(step, lines)

    def pictures(self, step: int, pictures: Mapping[str, Tensor], split: str = "valid") -> None:
        """Keep pictures [3, H, W] that show what the model now does."""
        from ptft.canvas import png_bytes

        for name, picture in pictures.items():
            with self.forgiving("pictures/"):
                self.write(f"pictures/step-{step:010d}-{split}-{name}.png", png_bytes(picture))

    def note(self, text: str) -> None:
        """Say a warning, now and again at the end."""
        if self.console:
            self.console.note(text)

    def bad_batch(self, step: int, rows: Iterable[int], values: Mapping[str, float]) -> None:
        """Write down which rows made a step's numbers not finite."""
        with self.forgiving("bad_batches.jsonl"):
            self._bad_batches.append({"step": step, "rows": [int(row) for row in rows], **values})

    @contextlib.contextmanager
    def forgiving(self, what: str) -> Iterator[None]:
        """Where the disk refuses what a run can do without, a warning may be enough (`warns`)."""
        try:
            yield
        except MachineError as error:
            if not self.warns:
                raise
            reason = str(error).rpartition(": ")[2]
            self.note(f"{what} lacks what the disk refused, training goes on (trainer.on_save_error=warn): {reason}")

    def write(self, name: str, content: bytes) -> None:
        """Write a file of the run folder whole, in place of an older one."""
        with refusals(self.folder / name):
            (self.folder / name).parent.mkdir(exist_ok=True)
            replace(self.folder / name, content)

    def save(
        self, step: int, tensors: Mapping[str, Mapping[str, Tensor]], state: Mapping[str, Any], best: bool = False
    ) -> Path:
        """Commit a checkpoint, move the pointers, remove what is too old. Raises Diverged, MachineError."""
        identity = {**self.identity, "run_id": self.run_id}
        self._saved_at = time.monotonic()  # where the disk refuses, the next try comes when the next save would
        with self.pause(), refusals(self.checkpoints):
            path = checkpoint.save(self.checkpoints, step, tensors, state, self.config, self.assets, identity, best)
            point(self.checkpoints, self.run_id)
            retire(self.checkpoints, self.run_id, self.keep_last)
        if self.console:
            self.console.saved(path)
        return path

    def pause(self) -> contextlib.AbstractContextManager:
        """Time inside is not counted as training."""
        return self.console.pace.pause() if self.console else contextlib.nullcontext()

    def latest(self) -> Path | None:
        """The newest whole checkpoint of this run."""
        return newest(self.checkpoints, self.run_id)[0]

    def minutes_since_save(self) -> float:
        """Minutes since the last checkpoint, or since the run was opened."""
        return (time.monotonic() - self._saved_at) / 60

    def finish(self, scores: Mapping[str, Mapping[str, float]], commands: Sequence[str] = ()) -> None:
        """Leave scores.json: the final scores by split. Until it is there the run is not done.

        commands: those that go on from here, with RUN for this folder; they are kept in run.json.
        """
        self.write("run.json", dump({**read_json(self.folder / "run.json"), "next": list(commands)}))
        self.write("scores.json", dump(plain(scores)))


def check_folder(folder: str | Path, config: str, *, resuming: bool = False, allow: Collection[str] = ()) -> None:
    """Raise what `Run.open` would raise about a folder, and leave nothing in it."""
    folder = Path(folder)
    with refusals(f"run={folder}"), tempfile.TemporaryFile(dir=_nearest(folder)):
        pass
    resume.refuse_foreign(folder)
    if holder(folder) is not None:
        Lock(folder).release()  # it cannot be had, and says who has it
    if not resuming:
        resume.refuse_reuse(folder)
        return
    resumed, _ = resume.where(folder / "checkpoints", read_json(folder / "run.json").get("run_id"))
    if resumed:
        resume.check_config(resumed, config, allow)


def _nearest(folder: Path) -> Path:
    """The folder, or the lowest one above it that there is."""
    for place in (folder, *folder.parents):
        with contextlib.suppress(FileNotFoundError):
            os.stat(place)
            return place
    return Path()


def _take(folder: Path) -> Lock:
    """Make the folder, lock it, and prove that it can be written to as checkpoints will be. Raises MachineError."""
    with refusals(f"run={folder}"):
        folder.mkdir(parents=True, exist_ok=True)
        lock = Lock(folder)
        try:
            replace(folder / ".writable", b"")
            (folder / ".writable").unlink()
        except OSError:
            lock.release()
            raise
    return lock
