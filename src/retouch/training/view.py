"""A live view of a run in the terminal."""

from collections import deque
from types import TracebackType
from typing import Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from retouch.training.config import TrainConfig
from retouch.training.journal import Row

_BLOCKS = "▁▂▃▄▅▆▇█"


class View:
    """Shows progress, the latest terms and the course of each as a line of blocks.

    Args:
        config: The recipe.
        console: Where to draw.
    """

    def __init__(self, config: TrainConfig, console: Console | None = None) -> None:
        self.config = config
        self.progress = Progress(
            TextColumn("[bold]{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(elapsed_when_finished=True),
        )
        self.task = self.progress.add_task(config.name, total=config.steps)
        self.courses: dict[str, deque[float]] = {}
        self.live = Live(self.draw(), console=console, refresh_per_second=2)

    def __enter__(self) -> Self:
        """Begin to draw."""
        self.live.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Leave the last picture on the screen."""
        self.live.__exit__(kind, error, trace)

    def __call__(self, row: Row) -> None:
        """Take a row of the log."""
        for key, value in row.items():
            if key != "step":
                self.courses.setdefault(key, deque(maxlen=40)).append(float(value))
        self.progress.update(self.task, completed=row["step"])
        self.live.update(self.draw())

    def draw(self) -> RenderableType:
        """Build the picture."""
        table = Table(box=None, pad_edge=False)
        table.add_column("what")
        table.add_column("now", justify="right")
        table.add_column("course")
        for key, values in self.courses.items():
            table.add_row(key, f"{values[-1]:.4g}", blocks(list(values)))
        return Group(self.progress, table)


def blocks(values: list[float]) -> str:
    """Draw numbers as a line of eight heights; what is not finite is a space."""
    finite = [v for v in values if v - v == 0]
    if not finite:
        return " " * len(values)
    low, span = min(finite), max(max(finite) - min(finite), 1e-12)
    top = len(_BLOCKS) - 1
    return "".join(_BLOCKS[round((v - low) / span * top)] if v - v == 0 else " " for v in values)
