"""Several fills at once: network passes of equal sizes are run as one batch.

Each fill runs in a thread of its own, with a stand-in for the network that hands its input to the
worker's thread and waits. When every fill that still runs has come, the worker stacks what has
equal shapes, runs the network, and gives each fill its share. Networks treat the pictures of a
batch independently (every network is tested for it), so nobody sees another's picture.
"""

import copy
import threading
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from retouch.pipeline.inpainter import Inpainter
from retouch.web.jobs import Cancelled, Job

_LARGEST = 1 << 22
"""Pixels of one batch; what is larger by itself runs alone."""


class Watch:
    """Counts the layers that a job has run.

    Args:
        job: It is told its progress.
        total: Layers in all passes.
    """

    def __init__(self, job: Job, total: int) -> None:
        self.job = job
        self.total = max(1, total)
        self.done = 0

    def step(self) -> None:
        """Count one.

        Raises:
            Cancelled: If the job is not wanted any longer.
        """
        self.done += 1
        self.job.advance(min(0.97, self.done / self.total))


Watching = Callable[[Sequence[Watch]], AbstractContextManager[None]]
"""Says whose pass runs for as long as it lasts."""


@dataclass(eq=False)
class _Call:
    inpainter: Inpainter
    given: tuple[Tensor, ...]
    watch: Watch
    result: Tensor | None = None
    error: BaseException | None = None
    done: threading.Event = field(default_factory=threading.Event)

    @property
    def kind(self) -> tuple[Any, ...]:
        shapes = tuple((x.shape[1:], x.dtype) for x in self.given)
        return (id(self.inpainter.network), *shapes)

    @property
    def pixels(self) -> int:
        b, _, h, w = self.given[0].shape
        return b * h * w


class Meeting:
    """Fills that run at the same time.

    Args:
        attendees: How many; each must `leave` in the end.
        watching: Told whose pass runs.
    """

    def __init__(self, attendees: int, watching: Watching) -> None:
        self._attendees = attendees
        self._watching = watching
        self._calls: list[_Call] = []
        self._changed = threading.Condition()

    def seat(self, inpainter: Inpainter, watch: Watch) -> Inpainter:
        """Return an inpainter whose passes are run by the meeting."""
        seated = copy.copy(inpainter)

        def stand_in(*given: Tensor) -> Tensor:
            return self._ask(_Call(inpainter, given, watch))

        seated.passes = stand_in
        return seated

    def leave(self) -> None:
        """Wait for no further pass of one attendee."""
        with self._changed:
            self._attendees -= 1
            self._changed.notify_all()

    def lead(self) -> None:
        """Run passes until everybody has left; in the worker's own thread."""
        while True:
            with self._changed:
                self._changed.wait_for(lambda: len(self._calls) >= self._attendees)
                calls, self._calls = self._calls, []
                if not self._attendees:
                    return
            for batch in _batches(calls):
                self._run(batch)

    def _ask(self, call: _Call) -> Tensor:
        with self._changed:
            self._calls.append(call)
            self._changed.notify_all()
        call.done.wait()
        if call.error is not None:
            raise call.error
        if call.result is None or call.watch.job.unwanted.is_set():
            raise Cancelled
        return call.result

    def _run(self, calls: list[_Call]) -> None:
        inpainter = calls[0].inpainter
        sizes = [call.given[0].shape[0] for call in calls]
        try:
            with self._watching([call.watch for call in calls]), torch.inference_mode():
                columns = zip(*(call.given for call in calls), strict=True)
                given = [torch.cat(column) for column in columns]
                results = inpainter.passes(*given).split(sizes)
            for call, result in zip(calls, results, strict=True):
                call.result = result
        except Exception as error:  # noqa: BLE001  (belongs to those who asked)
            for call in calls:
                call.error = error
        for call in calls:
            call.done.set()


def _batches(calls: list[_Call]) -> list[list[_Call]]:
    """Put together what has equal shapes, up to the largest batch."""
    found: list[list[_Call]] = []
    for call in calls:
        for batch in found:
            room = sum(other.pixels for other in batch) + call.pixels <= _LARGEST
            if room and batch[0].kind == call.kind:
                batch.append(call)
                break
        else:
            found.append([call])
    return found
