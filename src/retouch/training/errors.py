"""What ends a run."""


class TrainingError(RuntimeError):
    """A run cannot start or go on; the message says why."""
