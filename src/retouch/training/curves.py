"""Comparing runs: what each reached, and the curves of all in one picture."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from retouch import recipe
from retouch.training import journal
from retouch.training.errors import TrainingError

Points = tuple[list[int], list[float]]


@dataclass(frozen=True, kw_only=True)
class Finished:
    """One run as its folder tells it."""

    folder: Path
    recipe: Mapping[str, Any]
    """As the folder has it; an older version may have written other keys than today's."""
    curves: dict[str, Points]
    """Steps and values of every logged number."""

    @property
    def label(self) -> str:
        """Name of the folder."""
        return self.folder.name

    @property
    def step(self) -> int:
        """The last logged step."""
        return max((steps[-1] for steps, _ in self.curves.values()), default=0)

    def last(self, key: str) -> float | None:
        """The last value of a curve, None if there is no such curve."""
        return self.curves[key][1][-1] if key in self.curves else None

    def differences(self, other: "Finished") -> list[str]:
        """The recipe's entries in which this run differs from another, as `key = value`."""
        mine, theirs = (_flat(run.recipe) for run in (self, other))
        return [
            f"{k} = {mine.get(k)}" for k in sorted({*mine, *theirs}) if mine.get(k) != theirs.get(k)
        ]


def read(folder: Path) -> Finished:
    """Read a run's folder.

    Raises:
        TrainingError: If it is none.
        RecipeError: If its recipe cannot be read.
    """
    if not (folder / "recipe.toml").is_file() or not (folder / "log.jsonl").is_file():
        raise TrainingError(f"{folder} is no run: it holds no recipe.toml and log.jsonl")
    curves: dict[str, Points] = {}
    for row in journal.read(folder / "log.jsonl"):
        for key, value in row.items():
            if key != "step":
                steps, values = curves.setdefault(key, ([], []))
                steps.append(int(row["step"]))
                values.append(float(value))
    return Finished(folder=folder, recipe=recipe.read(folder / "recipe.toml"), curves=curves)


def find(places: Sequence[Path]) -> list[Finished]:
    """Read runs; a folder that is none stands for the runs directly inside it.

    Raises:
        TrainingError: If nothing is found.
    """
    folders: list[Path] = []
    for place in places:
        if (place / "log.jsonl").is_file():
            folders.append(place)
        else:
            folders += sorted(path.parent for path in place.glob("*/log.jsonl"))
    if not folders:
        raise TrainingError(f"no run in {', '.join(map(str, places))}")
    return [read(folder) for folder in folders]


def plot(runs: Sequence[Finished], output: Path, keys: Sequence[str] = ()) -> list[str]:
    """Draw curves, one panel each, all runs in every panel.

    Args:
        runs: What to compare.
        output: `.png` or `.svg`.
        keys: Which curves; none: validation measures, then all terms that two steps have.

    Returns:
        The curves drawn.

    Raises:
        TrainingError: If a curve is in no run, the format is unknown or matplotlib is missing.
    """
    if output.suffix not in (".png", ".svg"):
        raise TrainingError(f"{output} must end in .png or .svg")
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise TrainingError("plots need matplotlib: pip install 'retouch[train]'") from None
    present = {
        key: None for run in runs for key, (steps, _) in run.curves.items() if len(steps) > 1
    }
    if unknown := [key for key in keys if key not in present]:
        raise TrainingError(f"no curve {unknown}; there are {', '.join(present)}")
    chosen = list(keys) or sorted(present, key=lambda key: not key.startswith("validation"))
    if not chosen:
        raise TrainingError("no run has logged a number twice yet")
    columns = min(3, len(chosen))
    rows = -(-len(chosen) // columns)
    figure = Figure(figsize=(4.2 * columns, 2.8 * rows), layout="constrained")
    for index, key in enumerate(chosen):
        axes = figure.add_subplot(rows, columns, index + 1)
        for run in runs:
            if key in run.curves:
                axes.plot(*run.curves[key], label=run.label, linewidth=1)
        axes.set_title(key, fontsize=9)
        axes.tick_params(labelsize=8)
        axes.grid(alpha=0.3)
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3, fontsize=8)
    output.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(output, dpi=120)
    return chosen


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, object]:
    found: dict[str, object] = {}
    for key, value in values.items():
        if isinstance(value, dict):
            found |= _flat(value, f"{prefix}{key}.")
        else:
            found[prefix + key] = value
    return found
