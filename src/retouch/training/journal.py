"""What a run tells: `log.jsonl`, TensorBoard events, log lines, and whoever watches."""

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

Row = dict[str, Any]
Watch = Callable[[Row], None]

log = logging.getLogger(__name__)


class Journal:
    """Writes the rows of a run.

    Args:
        folder: The run's folder.
        step: Step at which the run goes on: rows of later steps, which a killed run had written
            after its last checkpoint, are dropped, since they come again.
        tensorboard: Write events too, if TensorBoard is installed.
        watch: Called with every row.
    """

    def __init__(
        self, folder: Path, step: int, *, tensorboard: bool = True, watch: Watch | None = None
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / "log.jsonl"
        self.watch = watch
        if self.path.exists():
            kept = [row for row in read(self.path) if row.get("step", 0) <= step]
            temporary = self.path.with_suffix(".part")
            temporary.write_text("".join(json.dumps(row) + "\n" for row in kept))
            temporary.replace(self.path)
        self.events = _events(folder, step) if tensorboard else None

    def write(self, row: Row) -> None:
        """Add a row with its `step`."""
        text = (f"{k} {v:.4g}" if isinstance(v, float) else f"{k} {v}" for k, v in row.items())
        log.info("%s", " ".join(text))
        with self.path.open("a") as file:
            file.write(json.dumps(row) + "\n")
        if self.events is not None:
            for key, value in row.items():
                if key != "step" and isinstance(value, float | int):
                    self.events.add_scalar(key.replace(" ", "_"), value, row["step"])
        if self.watch is not None:
            self.watch(row)

    def picture(self, name: str, path: Path, step: int) -> None:
        """Show a sheet in TensorBoard."""
        if self.events is not None and path.is_file():
            import numpy as np
            from PIL import Image

            self.events.add_image(name, np.asarray(Image.open(path)), step, dataformats="HWC")

    def close(self) -> None:
        """Write what is still in memory."""
        if self.events is not None:
            self.events.close()


def read(path: Path) -> list[Row]:
    """Read a log; a last line that was never finished is left out."""
    rows: list[Row] = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError:
            continue
    return rows


def _events(folder: Path, step: int) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        log.info("TensorBoard is not installed: events are left out")
        return None
    return SummaryWriter(str(folder / "tensorboard"), purge_step=step + 1, flush_secs=30)
