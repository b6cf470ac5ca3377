"""`retouch evaluate`: measure networks beside classical methods."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, TypeVar

from cyclopts import Parameter

if TYPE_CHECKING:
    from collections.abc import Callable

    from retouch.evaluation.methods import Method, Task
    from retouch.evaluation.pairs import PairSet
    from retouch.evaluation.protocols import Protocol
    from retouch.evaluation.run import Job
    from retouch.evaluation.tables import Results

T = TypeVar("T")
_MANY = Parameter(consume_multiple=True, negative="", show_default=False)


def evaluate(
    *,
    pictures: Annotated[tuple[Path, ...], _MANY],
    output: Annotated[Path, Parameter(name=["--output", "-o"])],
    masks: Annotated[tuple[str, ...], _MANY] = (),
    network: Annotated[tuple[str, ...], _MANY] = (),
    weights: Annotated[tuple[Path, ...], _MANY] = (),
    baselines: Annotated[tuple[str, ...], _MANY] = (),
    folder: Annotated[tuple[str, ...], Parameter(negative="", show_default=False)] = (),
    protocol: Literal[
        "retouch", "semnet", "isnet", "srpnet", "structure", "semantic", "deblur"
    ] = "retouch",
    metrics: Annotated[tuple[str, ...], _MANY] = (),
    kernels: Annotated[tuple[Path, ...], _MANY] = (),
    pairs: Path | None = None,
    seed: int | None = None,
    limit: int | None = None,
    processes: int = 1,
    device: str = "auto",
    cache: Path | None = None,
) -> None:
    """Measure networks, classical methods and other tools' pictures on the same fixed pairs.

    Example: retouch evaluate --network dilated-photos --baselines all --pictures test/
    --masks masks/ -o report. A run that was stopped goes on where it was; methods can be added to
    a finished one. Writes report.md, report.json, scores.csv, report.html and pairs.json.

    Args:
        pictures: Folders, file lists, tar shards or pictures: the truths.
        output: Folder for scores, pictures and reports.
        masks: Folders, file lists, tar shards or mask files (white = hole); "centre" is the centred
            square of half the side. The n-th picture gets mask n modulo their number, both sorted
            by name.
        network: Names of weights or of networks. The first method is the one that the others are
            compared with.
        weights: Weight files.
        baselines: "all", or names: telea, navier-stokes, harmonic, biharmonic, fsr-fast,
            patchmatch, migan, mean, nearest; for deblurring: blurred, wiener-gaussian, wiener-true.
        folder: NAME=DIR: pictures that another tool made, called like the truths. Repeatable.
        protocol: retouch is our own strict one, deblur takes sharp pictures with blurred twins
            instead of masks; the others follow the papers' code.
        metrics: Columns instead of the protocol's, such as psnr_rgb lpips_alex.hole fid.
        kernels: For wiener-true: .npy files, or folders or tars that hold some.
        pairs: A pairs.json of another evaluation: scores exactly its pairs, checked by hash.
        seed: Draw each picture's mask with this seed.
        limit: Only the first so many pictures.
        processes: Worker processes.
        device: auto, cpu, cuda, cuda:1, mps.
        cache: Where baselines keep their results for later evaluations; default
            ~/.cache/retouch-baselines.
    """
    from retouch.evaluation.metrics import Column
    from retouch.evaluation.pairs import EvaluationError
    from retouch.evaluation.protocols import PROTOCOLS
    from retouch.evaluation.run import Job

    chosen = PROTOCOLS[protocol]
    columns = tuple(Column.parse(text) for text in metrics or (*chosen.columns, *chosen.sets))
    if chosen.task == "deblur":
        if masks or seed is not None:
            raise EvaluationError("protocol deblur takes no --masks and no --seed: all is scored")
        pair_set = _blurred(pictures, kernels, pairs, limit)
    elif kernels:
        raise EvaluationError(f"--kernels goes with --protocol deblur, not with {protocol}")
    else:
        pair_set = _pairs(chosen, pictures, masks, pairs, seed, limit)
    rows, left_out = _methods((*network, *weights), baselines, folder, pair_set, chosen.task)
    for line in left_out:
        print(f"left out {line}")
    job = Job(
        pairs=pair_set,
        methods=tuple(rows),
        columns=columns,
        protocol=chosen,
        output=output,
        device=device,
        cache=cache or Path.home() / ".cache" / "retouch-baselines",
        threads=0 if processes == 1 else 1,
    )
    results = _measure(job, processes)
    _show(results, output)


def _pairs(
    protocol: "Protocol",
    pictures: tuple[Path, ...],
    masks: tuple[str, ...],
    saved: Path | None,
    seed: int | None,
    limit: int | None,
) -> "PairSet":
    from retouch.evaluation import pairs
    from retouch.evaluation.pairs import EvaluationError

    given = None if masks == ("centre",) or (protocol.centre_square and not masks) else masks
    if given == () and saved is None:
        raise EvaluationError(
            f"protocol {protocol.name} needs --masks: files, or the word centre for the centred "
            "square"
        )
    if saved is not None:
        return pairs.rebuild(saved, pictures, given or None, protocol.preparation, limit=limit)
    return pairs.make(pictures, given, protocol.preparation, seed=seed, limit=limit)


def _blurred(
    pictures: tuple[Path, ...],
    kernels: tuple[Path, ...],
    saved: Path | None,
    limit: int | None,
) -> "PairSet":
    from retouch.evaluation import blurred

    known = blurred.read_kernels(kernels)
    if saved is not None:
        return blurred.rebuild(saved, pictures, known, limit=limit)
    return blurred.make(pictures, known, limit=limit)


def _methods(
    networks: "tuple[str | Path, ...]",
    baselines: tuple[str, ...],
    folders: tuple[str, ...],
    pair_set: "PairSet",
    task: "Task",
) -> "tuple[list[Method], list[str]]":
    """Collect what is measured, and a line for each baseline that cannot run here."""
    from retouch.evaluation import methods
    from retouch.evaluation.pairs import EvaluationError

    rows = [methods.network(name, task=task) for name in networks]
    classical, left_out = methods.chosen_baselines(baselines, pair_set)
    rows += classical
    for text in folders:
        name, equals, place = text.partition("=")
        if not equals or not name:
            raise EvaluationError(f"--folder must be NAME=DIR, got {text!r}")
        rows.append(methods.folder(name, Path(place), pair_set.manifest))
    _check_names(rows)
    return rows, left_out


def _check_names(rows: "list[Method]") -> None:
    from retouch.evaluation.pairs import EvaluationError

    if not rows:
        raise EvaluationError(
            "nothing to measure: give --network, --weights, --baselines or --folder"
        )
    names = [method.name for method in rows]
    for name in names:
        if names.count(name) > 1:
            raise EvaluationError(f"two methods are called {name}")
        if name in ("truth", "input") or "/" in name or name.startswith("."):
            raise EvaluationError(f"a method cannot be called {name!r}")


def _measure(job: "Job", processes: int) -> "Results":
    from retouch.evaluation import page, report, run, sets, tables

    sets.check(job)
    rows = _watched(
        "scores", lambda watch: run.evaluate_rows(job, processes=processes, progress=watch)
    )
    scores = _watched("sets", lambda watch: sets.score_sets(job, watch))
    results = tables.summarise(
        job.protocol,
        job.columns,
        job.methods,
        rows,
        sets=scores,
        pairs_sha256=job.pairs.manifest.sha256,
    )
    report.write(results, job.output)
    page.write_page(results, job.pairs, job.output)
    return results


def _watched(what: str, work: "Callable[[Callable[[int, int, str], None]], T]") -> "T":
    """Run work under a progress bar."""
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, transient=True) as bar:
        task = bar.add_task(what, total=None)
        return work(
            lambda done, total, name: bar.update(
                task, completed=done, total=total, description=name
            )
        )


def _show(results: "Results", output: Path) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from retouch.evaluation.metrics import CONVENTIONS
    from retouch.evaluation.report import best, heading, number

    console = Console()
    table = Table("method", title=f"Protocol {results.protocol.name}, {results.count('all')} pairs")
    for column in results.columns:
        table.add_column(escape(heading(column)), justify="right", overflow="fold")
    for method in results.methods:
        cells: list[str] = []
        for column in results.columns:
            if column.facts.build is None:
                value = results.sets[method.name][column.metric].value
            else:
                value = results.cells[method.name, "all", str(column)].estimate.value
            strong = best(results, "all", column) == method.name
            text = number(value, column.facts)
            cells.append(f"[bold green]{text}[/]" if strong else text)
        table.add_row(method.name, *cells)
    console.print(table)
    for column in results.columns:
        console.print(f"{column}: {column.definition}", style="dim", markup=False, highlight=False)
    console.print(CONVENTIONS, style="dim", markup=False, highlight=False)
    console.print(f"per hole share, with intervals and pictures: {output / 'report.html'}")
