"""torchmetrics without the packages that only scores of others need: importing those takes seconds."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from unittest.mock import patch

HEAVY = ("transformers", "torchvision", "scipy", "matplotlib", "librosa", "onnxruntime", "torchaudio")


def import_torchmetrics() -> None:
    """Import torchmetrics as if HEAVY were not installed; afterwards it finds them again, where a metric asks."""
    if "torchmetrics" not in sys.modules:
        with _seeming_absent(HEAVY):
            importlib.import_module("torchmetrics")


@contextmanager
def _seeming_absent(packages: tuple[str, ...]) -> Iterator[None]:
    """Whoever asks lightning_utilities whether these are installed is told that they are not."""
    try:
        from lightning_utilities.core import imports
    except ImportError:  # a torchmetrics that asks in another way takes its time
        yield
        return
    met, there = imports.RequirementCache.__bool__, imports.package_available

    def is_met(asked: imports.RequirementCache) -> bool:
        return not str(asked.requirement or asked.module).startswith(packages) and met(asked)

    def is_there(name: str) -> bool:
        return not name.startswith(packages) and there(name)

    with patch.object(imports.RequirementCache, "__bool__", is_met), patch.object(imports, "package_available", is_there):
        yield
