"""Reports as text: Markdown for people, CSV and JSON for programs."""

import csv
import io
import json
from dataclasses import asdict
from math import isnan
from pathlib import Path
from typing import Any

from retouch.evaluation.metrics import CONVENTIONS, Column, Metric
from retouch.evaluation.tables import ALL, Cell, Results

__all__ = ["best", "grouping", "heading", "number", "to_csv", "to_json", "to_markdown", "write"]


def number(value: float, facts: Metric) -> str:
    """Format a score with the metric's decimals; a dash if there is none."""
    return "-" if isnan(value) else f"{value:.{facts.decimals}f}"


def heading(column: Column) -> str:
    """Write a column's name with its unit and the direction that is good."""
    facts = column.facts
    unit = f" [{facts.unit}]" if facts.unit else ""
    return f"{column}{unit} {'↑' if facts.better == 'higher' else '↓'}"


def grouping(results: Results) -> str:
    """Say what the bins are."""
    return "by hole share" if results.protocol.bins else "by kind"


def best(results: Results, name: str, column: Column) -> str | None:
    """Name the method with the best mean of a bin; None where there is no value."""
    values = {method.name: _value(results, method.name, name, column) for method in results.methods}
    usable = {method: value for method, value in values.items() if not isnan(value)}
    if not usable:
        return None
    pick = max if column.facts.better == "higher" else min
    return pick(usable, key=lambda method: usable[method])


def _value(results: Results, method: str, name: str, column: Column) -> float:
    if column.facts.build is None:
        return results.sets[method][column.metric].value
    return results.cells[method, name, str(column)].estimate.value


def write(results: Results, output: Path) -> list[Path]:
    """Write `report.md`, `scores.csv` (one line per picture and method) and `report.json`.

    Returns:
        The files.
    """
    texts = {
        "report.md": to_markdown(results),
        "scores.csv": to_csv(results),
        "report.json": to_json(results),
    }
    written: list[Path] = []
    for name, text in texts.items():
        path = output / name
        temporary = path.with_suffix(f"{path.suffix}.part")
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(path)
        written.append(path)
    return written


def to_markdown(results: Results) -> str:
    """Write the report as Markdown: definitions first, then the tables."""
    protocol = results.protocol
    lines = [
        f"# Evaluation, protocol `{protocol.name}`",
        "",
        f"{protocol.what}. {results.count(ALL)} pairs (manifest sha256 "
        f"`{results.pairs_sha256[:16]}`); {protocol.preparation}.",
        "",
        CONVENTIONS,
        "",
        *_definitions(results),
        "",
        "## All pairs",
        "",
        *_table_all(results),
    ]
    for column in results.picture_columns:
        if len(results.bins) > 1:
            lines += [
                "",
                f"## {heading(column)} {grouping(results)}",
                "",
                *_table_bins(results, column),
            ]
    if len(results.methods) > 1:
        lines += ["", f"## Differences: {results.reference} minus the other", ""]
        lines += _table_differences(results)
    lines += ["", "## Methods", ""]
    lines += [f"- `{method.name}`: {method.what}" for method in results.methods]
    if protocol.notes:
        lines += ["", "## Notes on the protocol", "", *(f"- {note}" for note in protocol.notes)]
    return "\n".join(lines) + "\n"


def _definitions(results: Results) -> list[str]:
    return [f"- **{column}**: {column.definition}." for column in results.columns]


def _table_all(results: Results) -> list[str]:
    rows = [["method", *map(heading, results.columns), "CPU s / picture"]]
    for method in results.methods:
        cells: list[str] = []
        for column in results.columns:
            text = _interval(results, method.name, ALL, column)
            strong = best(results, ALL, column) == method.name
            cells.append(f"**{text}**" if strong else text)
        times = [row.seconds for row in results.rows[method.name]]
        seconds = "-" if method.kind == "folder" else f"{sum(times) / len(times):.3f}"
        rows.append([method.name, *cells, seconds])
    return _markdown_table(rows)


def _table_bins(results: Results, column: Column) -> list[str]:
    counts = [f"{name} (n={results.count(name)})" for name in results.bins]
    rows = [["method", *counts]]
    for method in results.methods:
        cells: list[str] = []
        for name in results.bins:
            text = _interval(results, method.name, name, column)
            strong = best(results, name, column) == method.name
            cells.append(f"**{text}**" if strong else text)
        rows.append([method.name, *cells])
    return _markdown_table(rows)


def _table_differences(results: Results) -> list[str]:
    rows = [["column", "other", "difference [95 %]", "p", "wins", "n"]]
    for (_, other, key), comparison in results.comparisons.items():
        facts = Column.parse(key).facts
        gap = comparison.difference
        value = f"{gap.value:+.{facts.decimals}f}"
        interval = f"[{gap.low:+.{facts.decimals}f}, {gap.high:+.{facts.decimals}f}]"
        wins = comparison.wins if facts.better == "higher" else 1 - comparison.wins
        cells = [f"{value} {interval}", f"{comparison.p:.2g}", f"{wins:.0%}"]
        rows.append([key, other, *cells, str(comparison.pairs)])
    test = (
        "p: two-sided sign-flip test of the paired differences, not adjusted for the number of "
        f"comparisons; wins: share of pictures on which {results.reference} is better."
    )
    return [*_markdown_table(rows), "", test]


def _interval(results: Results, method: str, name: str, column: Column) -> str:
    facts = column.facts
    if facts.build is None:
        score = results.sets[method][column.metric]
        text = f"{number(score.value, facts)} (n={score.n})"
        if score.low is None or score.high is None:
            return text
        return f"{text} [{number(score.low, facts)}, {number(score.high, facts)}]"
    cell: Cell = results.cells[method, name, str(column)]
    estimate = cell.estimate
    text = number(estimate.value, facts)
    if isnan(estimate.value):
        return text
    short = f" (n={cell.n})" if cell.n < results.count(name) else ""
    return f"{text} [{number(estimate.low, facts)}, {number(estimate.high, facts)}]{short}"


def _markdown_table(rows: list[list[str]]) -> list[str]:
    head, *body = rows
    align = ["---", *("---:" for _ in head[1:])]
    return ["| " + " | ".join(row) + " |" for row in (head, align, *body)]


def to_csv(results: Results) -> str:
    """Write one line per method and picture."""
    columns = [str(column) for column in results.picture_columns]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(
        ["method", "number", "picture", "mask", "hole_share", "bin", "seconds", *columns]
    )
    for method in results.methods:
        for row in results.rows[method.name]:
            fixed = [row.number, row.picture, row.mask, row.hole_share, row.bin, row.seconds]
            writer.writerow([method.name, *fixed, *(row.scores[name] for name in columns)])
    return text.getvalue()


def to_json(results: Results) -> str:
    """Write every number of the report, with definitions, methods and versions."""
    cells: dict[str, Any] = {}
    for (method, name, column), cell in results.cells.items():
        place = cells.setdefault(method, {}).setdefault(name, {})
        place[column] = {**asdict(cell.estimate), "n": cell.n}
    whole = {
        "protocol": results.protocol.name,
        "what": results.protocol.what,
        "preparation": str(results.protocol.preparation),
        "conventions": CONVENTIONS,
        "pairs_sha256": results.pairs_sha256,
        "pairs": results.count(ALL),
        "bins": {name: results.count(name) for name in results.bins},
        "columns": {
            str(column): {"definition": column.definition, "better": column.facts.better}
            for column in results.columns
        },
        "methods": [asdict(method) for method in results.methods],
        "scores": cells,
        "sets": {
            method: {name: asdict(score) for name, score in scores.items()}
            for method, scores in results.sets.items()
        },
        "comparisons": [
            {"reference": reference, "other": other, "column": column, **asdict(comparison)}
            for (reference, other, column), comparison in results.comparisons.items()
        ],
        "notes": results.protocol.notes,
    }
    return json.dumps(_plain(whole), indent=1, ensure_ascii=False) + "\n"


def _plain(value: Any) -> Any:
    """Replace NaN, which is not JSON, by null."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and isnan(value) else value
