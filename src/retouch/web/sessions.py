"""What the server keeps between requests: bounded in memory, forgotten when idle.

Nothing here is precious: the page keeps the file and every fill itself, and brings them again when
the server has forgotten them or was started anew.
"""

import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

T = TypeVar("T")


class ForgottenError(LookupError):
    """There is nothing under this key (any longer)."""


class OverfullError(ValueError):
    """One thing is larger than all that may be kept."""


@dataclass
class _Kept:
    thing: Any
    cost: int
    used: float


class Shelf:
    """Keeps things under keys that nobody can guess.

    Args:
        memory: Sum of costs that may be kept [byte].
        idle: Things that were not used for this long are forgotten [s].
        clock: Gives the time [s].
    """

    def __init__(
        self, memory: int, idle: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.memory = memory
        self.idle = idle
        self._clock = clock
        self._kept: OrderedDict[str, _Kept] = OrderedDict()  # longest unused first
        self._lock = threading.RLock()

    def put(self, thing: object, cost: int) -> str:
        """Keep a thing; what was unused longest goes if there is no room.

        Args:
            thing: Anything.
            cost: What it takes [byte].

        Raises:
            OverfullError: If it is too large by itself.
        """
        key = secrets.token_urlsafe(16)
        with self._lock:
            self._make_room(cost)
            self._kept[key] = _Kept(thing, cost, self._clock())
        return key

    def get(self, key: str, kind: type[T]) -> T:
        """Return a thing and count it as used now.

        Raises:
            ForgottenError: If there is no thing of this kind under the key.
        """
        with self._lock:
            self.sweep()
            kept = self._kept.get(key)
            if kept is None or not isinstance(kept.thing, kind):
                raise ForgottenError(f"no {kind.__name__} {key[:40]!r}: forgotten, or never here")
            kept.used = self._clock()
            self._kept.move_to_end(key)
            return kept.thing

    def grow(self, key: str, cost: int) -> None:
        """Count more bytes for a thing.

        Raises:
            OverfullError: If it has become too large by itself.
        """
        with self._lock:
            kept = self._kept.pop(key, None)
            if kept is None:
                return
            try:
                self._make_room(kept.cost + cost)
                kept.cost += cost
            finally:
                self._kept[key] = kept

    def drop(self, key: str) -> None:
        """Forget a thing."""
        with self._lock:
            self._kept.pop(key, None)

    def sweep(self) -> None:
        """Forget what was idle for too long."""
        with self._lock:
            limit = self._clock() - self.idle
            while self._kept and (key := next(iter(self._kept))):
                if self._kept[key].used > limit:
                    break
                del self._kept[key]

    def __len__(self) -> int:
        """Count the things."""
        return len(self._kept)

    @property
    def cost(self) -> int:
        """Sum of all costs [byte]."""
        with self._lock:
            return sum(kept.cost for kept in self._kept.values())

    def _make_room(self, cost: int) -> None:
        if cost > self.memory:
            raise OverfullError(f"{cost} bytes are over the server's memory of {self.memory}")
        self.sweep()
        total = self.cost
        while total + cost > self.memory:
            total -= self._kept.popitem(last=False)[1].cost
