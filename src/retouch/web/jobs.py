"""Jobs: a queue of bounded length, one worker thread per device, progress, cancellation."""

import asyncio
import logging
import math
import secrets
import threading
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Hashable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Literal

logger = logging.getLogger(__name__)

State = Literal["queued", "running", "done", "failed", "cancelled"]
FINISHED = ("done", "failed", "cancelled")
_KEPT = 256
"""Finished jobs that can still be asked for."""


class Cancelled(Exception):  # noqa: N818  (an event, no error)
    """Raised inside the work of a job that nobody wants any longer."""


class FullError(Exception):
    """The queue is full; `wait` says when to come back [s]."""

    def __init__(self, wait: int) -> None:
        super().__init__("the queue is full")
        self.wait = wait


@dataclass(eq=False)
class Job:
    """One piece of work, from its acceptance to its result."""

    kind: str
    work: "Callable[[Job, Any], Any]"
    """Called with the job and the worker's own engine."""
    loop: asyncio.AbstractEventLoop
    cleanup: Callable[[], None] = lambda: None
    """Called once when the job is over, whatever became of it."""
    alike: Hashable = None
    """Jobs of which this is equal (and not None) may be done together."""
    key: str = field(default_factory=lambda: secrets.token_urlsafe(16))
    state: State = "queued"
    progress: float = 0.0
    result: Any = None
    error: str | None = None
    mistake: bool = False
    """Whether the error is the client's."""
    seconds: float = 0.0
    unwanted: threading.Event = field(default_factory=threading.Event)
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    def advance(self, share: float) -> None:
        """Tell how much is done, from the worker's thread.

        Raises:
            Cancelled: If the job was cancelled.
        """
        if self.unwanted.is_set():
            raise Cancelled
        if share - self.progress >= 0.02:
            self.progress = share
            self.loop.call_soon_threadsafe(self.notify)

    def notify(self) -> None:
        """Wake all who follow the job; only in the event loop."""
        self.changed.set()
        self.changed = asyncio.Event()

    async def follow(self, every: float = 15.0) -> AsyncIterator[None]:
        """Yield at once, at every change and at least `every` seconds; end with the job."""
        while True:
            changed = self.changed
            yield
            if self.state in FINISHED:
                return
            try:
                await asyncio.wait_for(changed.wait(), every)
            except TimeoutError:
                continue

    async def finished(self) -> None:
        """Wait for the end."""
        async for _ in self.follow():
            pass


class Slot:
    """A place in the queue, taken before the body is read; give it back, or fill it with a job."""

    def __init__(self, office: "Office") -> None:
        self._office = office
        self._open = True

    def __enter__(self) -> "Slot":
        return self

    def __exit__(self, *_: object) -> None:
        if self._open:
            self._office.release()

    def submit(
        self,
        kind: str,
        work: Callable[[Job, Any], Any],
        cleanup: Callable[[], None] = lambda: None,
        alike: Hashable = None,
    ) -> Job:
        """Queue a job in this place; `cleanup` is called when it is over, in any case."""
        self._open = False
        job = Job(kind, work, asyncio.get_running_loop(), cleanup, alike)
        self._office.enqueue(job)
        return job


class Office:
    """Takes jobs in and has them done.

    Args:
        devices: One worker thread for each.
        make_engine: Called once in each worker's thread with its device; may take seconds.
        places: Jobs that may wait or run.
        is_mistake: Whether an exception is the client's mistake; its text is then shown.
        on_end: Called in the worker's thread with each job that is over.
        together: Jobs that are alike and may be done at the same time by one worker.
    """

    def __init__(
        self,
        devices: tuple[str, ...],
        make_engine: Callable[[str], Any],
        places: int,
        is_mistake: Callable[[BaseException], bool],
        on_end: "Callable[[Job], None]" = lambda job: None,
        together: int = 1,
    ) -> None:
        self.together = together
        self.places = places
        self.taken = 0
        self.ready = False
        """Whether a worker can begin at once."""
        self.broken: str | None = None
        """Why no worker could be started."""
        self.mean = 2.0
        """Running mean of a job's time [s]."""
        self.jobs: dict[str, Job] = {}
        self._make_engine = make_engine
        self._is_mistake = is_mistake
        self._on_end = on_end
        self._lock = threading.Lock()
        self._waiting: deque[Job | None] = deque()
        self._arrived = threading.Condition()
        self._threads = [
            threading.Thread(target=self._serve, args=(device,), name=f"worker-{device}")
            for device in devices
        ]

    def start(self) -> None:
        """Start the workers."""
        for thread in self._threads:
            thread.daemon = True
            thread.start()

    def stop(self) -> None:
        """Let running jobs end early and send the workers home."""
        for job in list(self.jobs.values()):
            job.unwanted.set()
        for _ in self._threads:
            self._put(None)

    def slot(self) -> Slot:
        """Take a place.

        Raises:
            FullError: If there is none.
        """
        with self._lock:
            if self.taken >= self.places:
                raise FullError(max(1, math.ceil(self.mean * self.taken / len(self._threads))))
            self.taken += 1
        return Slot(self)

    def release(self) -> None:
        """Give a place back."""
        with self._lock:
            self.taken -= 1

    def enqueue(self, job: Job) -> None:
        """Queue a job whose place is already taken."""
        done = [key for key, old in self.jobs.items() if old.state in FINISHED]
        for key in done[: max(0, len(done) - _KEPT)]:
            del self.jobs[key]
        self.jobs[job.key] = job
        self._put(job)

    def cancel(self, job: Job) -> None:
        """Take a waiting job out, or end a running one at its next step."""
        job.unwanted.set()
        if job.state == "queued":
            job.state = "cancelled"
            job.notify()

    def position(self, job: Job) -> int:
        """How many waiting jobs come before this one."""
        waiting = [other for other in self.jobs.values() if other.state == "queued"]
        return waiting.index(job) if job in waiting else 0

    def _serve(self, device: str) -> None:
        engine: Any = None
        try:
            engine = self._make_engine(device)
            self.ready = True
        except Exception as error:
            logger.exception("no engine on %s", device)
            self.broken = str(error) if self._is_mistake(error) else type(error).__name__
        name = threading.current_thread().name
        with ThreadPoolExecutor(self.together, f"{name}-fill") as helpers:
            while jobs := self._take():
                if len(jobs) == 1:
                    self._do(jobs[0], engine)
                else:
                    self._do_together(jobs, engine, helpers)

    def _put(self, job: Job | None) -> None:
        with self._arrived:
            self._waiting.append(job)
            self._arrived.notify()

    def _take(self) -> list[Job]:
        """Wait for a job; take those that are like it out of the queue too. Empty: go home."""
        with self._arrived:
            self._arrived.wait_for(lambda: self._waiting)
            first = self._waiting.popleft()
            if first is None:
                return []
            taken = [first]
            if first.alike is not None:
                others = [job for job in self._waiting if job and job.alike == first.alike]
                taken += others[: self.together - 1]
                for job in taken[1:]:
                    self._waiting.remove(job)
            return taken

    def _do_together(self, jobs: list[Job], engine: Any, helpers: ThreadPoolExecutor) -> None:
        if engine is None:
            for job in jobs:
                self._do(job, engine)
            return
        with engine.meet(len(jobs)) as meeting:

            def attend(job: Job) -> None:
                try:
                    self._do(job, engine)
                finally:
                    meeting.leave()

            futures = [helpers.submit(attend, job) for job in jobs]
            meeting.lead()
            for future in futures:
                future.result()

    def _do(self, job: Job, engine: Any) -> None:
        if engine is None:
            job.error, job.mistake = f"nothing can be filled: {self.broken}", False
            self._end(job, "failed", 0.0)
            return
        if job.state == "cancelled" or job.unwanted.is_set():
            self._end(job, "cancelled", 0.0)
            return
        job.state = "running"
        job.loop.call_soon_threadsafe(job.notify)
        started = time.monotonic()
        state: State = "done"
        try:
            job.result = job.work(job, engine)
        except Cancelled:
            state = "cancelled"
        except Exception as error:
            state = "failed"
            job.mistake = self._is_mistake(error)
            job.error = str(error) if job.mistake else f"internal error ({type(error).__name__})"
            if not job.mistake:
                logger.exception("%s failed", job.kind)
        self._end(job, state, time.monotonic() - started)

    def _end(self, job: Job, state: State, seconds: float) -> None:
        job.seconds = seconds
        job.cleanup()
        job.work, job.cleanup = _nothing, lambda: None  # lets go of the pictures they hold
        if state == "done":
            job.progress = 1.0
            self.mean += 0.2 * (seconds - self.mean)
        with self._lock:
            self.taken -= 1
        job.state = state
        self._on_end(job)
        if not job.loop.is_closed():
            job.loop.call_soon_threadsafe(job.notify)


def _nothing(job: Job, engine: Any) -> None:
    """Stands for work that is over."""
