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


@contextmanager
def about(key: str) -> Iterator[None]:
    """Put the recipe's key in front of what is wrong with its value: a file, a name.

    Raises:
        TrainingError: Instead of an error that the package or the system raised for a person.
    """
    try:
        yield
    except (OSError, ValueError, RuntimeError, KeyError) as error:
        if not isinstance(error, OSError) and not type(error).__module__.startswith("retouch."):
            raise
        text = error.args[0] if isinstance(error, KeyError) else error
        raise TrainingError(f"{key}: {text}") from error


def _ours(error: BaseException) -> bool:
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    name = "" if trace is None else trace.tb_frame.f_globals.get("__name__", "")
    return str(name).startswith("retouch.")
