"""TensorBoard files of a run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any


class TensorBoard:
    """The event file of one run, opened (and its library imported) at the first value written.

    after: the step a run was resumed from; what was written for later steps is then withdrawn.
    """

    def __init__(self, folder: str | Path, after: int | None = None):
        self.folder, self.after = Path(folder), after
        self._writer: Any = None

    def scalars(self, step: int, split: str, values: Mapping[str, float]) -> None:
        """Write numbers under `<name>/<split>`, so that train and valid share a chart."""
        for name, value in values.items():
            self._open().add_scalar(f"{name}/{split}", value, step)

    def close(self) -> None:
        """Write what is still held back."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def _open(self) -> Any:
        if self._writer is None:
            from torch.utils.tensorboard import SummaryWriter

            purge = None if self.after is None else self.after + 1
            self._writer = SummaryWriter(str(self.folder), purge_step=purge)
        return self._writer
