"""What ends a run."""

from collections.abc import Iterator
from contextlib import contextmanager


class TrainingError(RuntimeError):
    """A run cannot start or go on; the message says why."""


@contextmanager
def deliberate() -> Iterator[None]:
    """Turn the package's own `ValueError`s into `TrainingError`s; those of libraries are bugs.

    Networks and objectives check what a recipe gives them (sizes, label maps, stages): a person
    who trains is to read that as one line.

    Raises:
        TrainingError: Instead of a `ValueError` that the package raised on purpose.
    """
    try:
        yield
    except ValueError as error:
        if type(error) is not ValueError or not _ours(error):
            raise
        raise TrainingError(str(error)) from error


def _ours(error: BaseException) -> bool:
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    name = "" if trace is None else trace.tb_frame.f_globals.get("__name__", "")
    return str(name).startswith("retouch.")
