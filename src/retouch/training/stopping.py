"""Lets a run end between two steps if asked to: Ctrl-C, or SIGTERM as schedulers send it."""

import logging
import signal
import threading
from types import FrameType, TracebackType
from typing import Any, Self

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Stop:
    """Turns the first signal into a wish; the second one ends the program as ever.

    Signals reach a program's main thread alone; elsewhere this does nothing.

    Args:
        listen: False leaves signals alone: of several processes all must make the same steps.
    """

    def __init__(self, listen: bool = True) -> None:
        self._listen = listen and threading.current_thread() is threading.main_thread()
        self.asked: int | None = None
        """Number of the signal that came."""
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        """Begin to listen."""
        if self._listen:
            self._before = {number: signal.signal(number, self._ask) for number in _SIGNALS}
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Leave signals to those who had them."""
        self._restore()

    def _ask(self, number: int, frame: FrameType | None) -> None:
        self.asked = number
        self._restore()
        logging.warning("stopping after this step; once more stops at once")

    def _restore(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}

    def leave(self) -> None:
        """End the program as the signal would have done.

        Raises:
            KeyboardInterrupt: After Ctrl-C.
            SystemExit: After SIGTERM, with 128 more than its number.
        """
        if self.asked == signal.SIGINT:
            raise KeyboardInterrupt
        if self.asked is not None:
            raise SystemExit(128 + self.asked)
