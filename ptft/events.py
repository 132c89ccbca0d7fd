"""TensorBoard files of a run."""

from __future__ import annotations

import io
import os
import socket
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ptft.durable import refusals, whole


class TensorBoard:
    """The event file of one run, opened (and its library imported) at the first value written.

    after: the step a run was resumed from; what was written for later steps is then withdrawn. TensorBoard's own writer has a
    thread, whose errors nobody could catch.
    """

    def __init__(self, folder: str | Path, after: int | None = None):
        self.folder, self.after = Path(folder), after
        self._descriptor: int | None = None
        self._refused = False

    def scalars(self, step: int, split: str, values: Mapping[str, float]) -> None:
        """Write numbers under `<name>/<split>`, so that train and valid share a chart.

        Raises MachineError where the disk refuses; nothing is written after that.
        """
        if self._refused or not values:
            return
        try:
            with refusals(self.folder):
                if self._descriptor is None:
                    self._open()
                self._write(step=step, summary={f"{name}/{split}": float(value) for name, value in values.items()})
        except Exception:
            self._refused = True
            raise

    def close(self) -> None:
        """Let go of the file."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _open(self) -> None:
        self.folder.mkdir(exist_ok=True)
        name = f"events.out.tfevents.{time.time():.0f}.{socket.gethostname()}.{os.getpid()}"
        self._descriptor = os.open(self.folder / name, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o666)
        self._write(file_version="brain.Event:2")
        if self.after is not None:
            self._write(step=self.after + 1, session_log={"status": "START"})

    def _write(self, summary: Mapping[str, float] | None = None, **fields: Any) -> None:
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.compat.proto.summary_pb2 import Summary
        from tensorboard.summary.writer.record_writer import RecordWriter

        if summary:
            fields["summary"] = Summary(value=[Summary.Value(tag=tag, simple_value=value) for tag, value in summary.items()])
        event = Event(wall_time=time.time(), **fields)
        record = io.BytesIO()
        RecordWriter(record).write(event.SerializeToString())
        whole(self._descriptor, record.getvalue())
