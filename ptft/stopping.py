"""Signals as a request to stop: the first is noted, the second ends the process at once."""

from __future__ import annotations

import os
import signal
import threading
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)


class StopSignals:
    """Inside `with`, SIGINT, SIGTERM and SIGUSR1 set `received` to their name; training looks at it between steps."""

    def __init__(self) -> None:
        self.received = ""
        self._before: dict[int, Any] = {}

    def __enter__(self) -> StopSignals:
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._handle) for number in SIGNALS}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _handle(self, number: int, _frame: object) -> None:
        if self.received:
            os._exit(128 + number)
        self.received = signal.Signals(number).name
        os.write(2, f"\n{self.received}: stopping after this step and saving; once more stops at once\n".encode())
