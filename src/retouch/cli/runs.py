"""`retouch runs`: compare training runs."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter


def runs(
    *folders: Path,
    output: Annotated[Path | None, Parameter(name=["--output", "-o"])] = None,
    curves: Annotated[tuple[str, ...], Parameter(name=["--curve", "-c"], negative="")] = (),
) -> None:
    """Show what runs have reached and how recipes of the same network differ; draw their curves.

    Args:
        folders: Run folders, or folders of run folders; default `runs`.
        output: Draw the curves into this `.png` or `.svg`.
        curves: Which ones, such as `validation psnr_rgb`; default all. Repeatable.
    """
    from rich.console import Console
    from rich.table import Table

    from retouch.training import curves as drawing

    found = drawing.find(folders or (Path("runs"),))
    measures = list(dict.fromkeys(k for run in found for k in run.curves if k.startswith("valid")))
    table = Table()
    for name in ("run", "network", "step", "pictures/s"):
        table.add_column(name, overflow="fold")
    for name in measures:
        table.add_column(name.removeprefix("validation "), justify="right", overflow="fold")
    for run in found:
        speed = run.last("pictures/s")
        reached = [run.last(name) for name in measures]
        table.add_row(
            run.label,
            str(run.recipe.get("network", "?")),
            f"{run.step} of {run.recipe.get('steps', '?')}",
            "" if speed is None else f"{speed:.1f}",
            *("" if value is None else f"{value:.4g}" for value in reached),
        )
    Console().print(table)
    first: dict[str, drawing.Finished] = {}
    for run in found:
        model = first.setdefault(str(run.recipe.get("network")), run)
        differences = [d for d in run.differences(model) if not d.startswith("name =")]
        if differences:
            print(f"{run.label} differs from {model.label} in {'; '.join(differences)}")
    if output is not None:
        drawn = drawing.plot(found, output, curves)
        print(f"{', '.join(drawn)} drawn in {output}")
