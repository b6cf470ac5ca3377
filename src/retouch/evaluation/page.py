"""The report as one HTML file that needs nothing else: tables, plots and a sheet of pictures."""

import base64
import json
from collections.abc import Sequence
from html import escape
from math import isnan
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from retouch.evaluation.metrics import CONVENTIONS, Column
from retouch.evaluation.pairs import PairSet
from retouch.evaluation.plots import plot
from retouch.evaluation.report import best, grouping, heading, number
from retouch.evaluation.run import picture_path
from retouch.evaluation.sets import read_png
from retouch.evaluation.tables import ALL, Results

__all__ = ["write_page"]

_DATA = Path(__file__).parent / "data"
_QUALITY = 92
_LARGEST = 512
"""Pictures of the sheet are shrunk to this side [px]."""


def write_page(results: Results, pairs: PairSet, output: Path, *, each: int = 4) -> Path:
    """Write `report.html`.

    Args:
        results: What to show.
        pairs: Where truths and masks are.
        output: The evaluation's folder with `pictures/`.
        each: Pictures among the worst, the median and the best ones of the sheet.

    Returns:
        The file.
    """
    protocol = results.protocol
    parts = [
        f"<h1>Evaluation, protocol <code>{escape(protocol.name)}</code></h1>",
        f"<p>{escape(protocol.what)}. {results.count(ALL)} pairs (manifest sha256 "
        f"<code>{results.pairs_sha256[:16]}</code>); {escape(str(protocol.preparation))}.</p>",
        f"<p>{escape(CONVENTIONS)}</p>",
        "<h2>All pairs</h2>",
        _table_all(results),
        "<h2>What the columns mean</h2><dl>",
        *(
            f"<dt>{escape(str(column))}</dt><dd>{escape(column.definition)}</dd>"
            for column in results.columns
        ),
        "</dl>",
        *_bins(results),
        *_differences(results),
        *_sheet(results, pairs, output, each),
        "<h2>Methods</h2><dl>",
        *(
            f"<dt>{escape(method.name)}</dt><dd>{escape(method.what)}</dd>"
            for method in results.methods
        ),
        "</dl>",
    ]
    if protocol.notes:
        notes = "".join(f"<li>{escape(note)}</li>" for note in protocol.notes)
        parts.append(f"<h2>Notes on the protocol</h2><ul>{notes}</ul>")
    css = (_DATA / "page.css").read_text("utf-8")
    script = (_DATA / "page.js").read_text("utf-8")
    html = (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>Evaluation, protocol {escape(protocol.name)}</title>"
        f"<style>\n{css}</style></head><body>\n{chr(10).join(parts)}\n"
        f"<script>\n{script}</script></body></html>\n"
    )
    path = output / "report.html"
    temporary = path.with_suffix(".part")
    temporary.write_text(html, encoding="utf-8")
    temporary.replace(path)
    return path


def _table(head: Sequence[str], rows: Sequence[Sequence[str]], hints: Sequence[str] = ()) -> str:
    """Build a sortable table of headings (with hints from the second on) and finished cells."""
    titles = ["", *hints] + [""] * len(head)
    top = "".join(
        f'<th scope="col" title="{escape(title)}">{escape(text)}</th>'
        for text, title in zip(head, titles, strict=False)
    )
    body = "\n".join(f"<tr>{''.join(cells)}</tr>" for cells in rows)
    return (
        f'<div class="scroll"><table class="sortable"><thead><tr>{top}</tr></thead>'
        f"<tbody>\n{body}\n</tbody></table></div>"
    )


def _name(text: str) -> str:
    return f"<td>{escape(text)}</td>"


def _cell(results: Results, method: str, name: str, column: Column) -> str:
    facts = column.facts
    if facts.build is None:
        score = results.sets[method][column.metric]
        value, low, high = score.value, score.low, score.high
    else:
        estimate = results.cells[method, name, str(column)].estimate
        value, low, high = estimate.value, estimate.low, estimate.high
    if isnan(value):
        return "<td>-</td>"
    strong = ' class="best"' if best(results, name, column) == method else ""
    interval = ""
    if low is not None and high is not None:
        interval = f"<small>[{number(low, facts)}, {number(high, facts)}]</small>"
    return f'<td{strong} data-value="{value!r}">{number(value, facts)}{interval}</td>'


def _table_all(results: Results) -> str:
    rows: list[list[str]] = []
    for method in results.methods:
        cells = [_cell(results, method.name, ALL, column) for column in results.columns]
        times = [row.seconds for row in results.rows[method.name]]
        mean = sum(times) / len(times)
        time = "<td>-</td>"
        if method.kind != "folder":
            time = f'<td data-value="{mean!r}">{mean:.3f}</td>'
        rows.append([_name(method.name), *cells, time])
    head = ["method", *map(heading, results.columns), "CPU s / picture"]
    return _table(head, rows, [column.definition for column in results.columns])


def _bins(results: Results) -> list[str]:
    if len(results.bins) < 2:
        return []
    drawn = [name for name in results.bins if name not in (ALL, "other")]
    parts = [f"<h2>{grouping(results).capitalize()}</h2>"]
    if len(drawn) > 1 and results.protocol.bins:
        figures = (f"<figure>{plot(results, c)}</figure>" for c in results.picture_columns)
        parts += ['<div class="plots">', *figures, "</div>"]
    head = ["method", *(f"{name} (n={results.count(name)})" for name in results.bins)]
    for column in results.picture_columns:
        rows = [
            [
                _name(method.name),
                *(_cell(results, method.name, name, column) for name in results.bins),
            ]
            for method in results.methods
        ]
        parts += [f"<h3>{escape(heading(column))}</h3>", _table(head, rows)]
    return parts


def _differences(results: Results) -> list[str]:
    if not results.comparisons:
        return []
    rows: list[list[str]] = []
    for (_, other, key), comparison in results.comparisons.items():
        facts = Column.parse(key).facts
        gap = comparison.difference
        digits = facts.decimals
        wins = comparison.wins if facts.better == "higher" else 1 - comparison.wins
        interval = f"<small>[{gap.low:+.{digits}f}, {gap.high:+.{digits}f}]</small>"
        rows.append(
            [
                _name(other),
                f"<td>{escape(key)}</td>",
                f'<td data-value="{gap.value!r}">{gap.value:+.{digits}f}{interval}</td>',
                f'<td data-value="{comparison.p!r}">{comparison.p:.2g}</td>',
                f'<td data-value="{wins!r}">{wins:.0%}</td>',
                f"<td>{comparison.pairs}</td>",
            ]
        )
    reference = escape(results.reference)
    return [
        f"<h2>Differences: {reference} minus the other</h2>",
        "<p>p: two-sided sign-flip test of the paired differences, not adjusted for the number of "
        f"comparisons; wins: share of pictures on which {reference} is better.</p>",
        _table(["other", "column", "difference [95 %]", "p", "wins", "n"], rows),
    ]


def _sheet(results: Results, pairs: PairSet, output: Path, each: int) -> list[str]:
    """Show the worst, median and best pictures of the first method."""
    columns = results.picture_columns
    if not columns:
        return []
    by = next((column for column in columns if column.metric.startswith("lpips")), columns[0])
    groups = _picked(results, by, each)
    names = ["truth", "input", *(method.name for method in results.methods)]
    options = "".join(f"<option>{escape(name)}</option>" for name in names)
    second = options.replace(
        f"<option>{escape(results.reference)}", f"<option selected>{escape(results.reference)}"
    )
    cards = [_card(results, pairs, output, place, kinds, by) for place, kinds in groups.items()]
    kinds = "".join(f"<option>{kind}</option>" for kind in ("worst", "median", "best"))
    return [
        "<h2>Pictures</h2>",
        f"<p>The worst, median and best of {escape(results.reference)} by {escape(str(by))}; "
        "the numbers beside the names are that score.</p>",
        '<div class="controls">',
        f'<label>left <select id="left">{options}</select></label>',
        f'<label>right <select id="right">{second}</select></label>',
        f'<label>show <select id="group"><option value="">all</option>{kinds}</select></label>',
        "</div>",
        '<div class="sheet">',
        *cards,
        "</div>",
    ]


def _picked(results: Results, by: Column, each: int) -> dict[int, list[str]]:
    """Choose places in the rows: place -> the groups it belongs to."""
    rows = results.rows[results.reference]
    usable = [place for place, row in enumerate(rows) if not isnan(row.scores[str(by)])]
    sign = 1 if by.facts.better == "higher" else -1
    order = sorted(usable, key=lambda place: sign * rows[place].scores[str(by)])
    middle = max(0, (len(order) - each) // 2)
    groups: dict[int, list[str]] = {}
    parts = {
        "worst": order[:each],
        "median": order[middle : middle + each],
        "best": order[-each:],
    }
    for kind, places in parts.items():
        for place in places:
            groups.setdefault(place, []).append(kind)
    return groups


def _card(
    results: Results, pairs: PairSet, output: Path, place: int, kinds: Sequence[str], by: Column
) -> str:
    row = results.rows[results.reference][place]
    truth, mask = pairs.open(row.number)
    shown = pairs.shown(row.number, truth, mask)
    if results.protocol.task == "fill":
        rows, columns = np.indices(mask.shape) // 8
        squares = np.where((rows + columns) % 2, np.uint8(255), np.uint8(190))  # seen on snow, too
        shown = np.where(mask[..., None], squares[..., None], shown)
    sources = {
        "truth": {"picture": _uri(truth), "score": ""},
        "input": {"picture": _uri(shown), "score": ""},
    }
    for method in results.methods:
        picture = read_png(picture_path(output, method.name, row.number, row.picture))
        score = results.rows[method.name][place].scores[str(by)]
        text = number(score, by.facts)
        sources[method.name] = {"picture": _uri(picture), "score": text}
    held = json.dumps(sources).replace("</", "<\\/")
    label = f"{row.picture} ({', '.join(kinds)})"
    if results.protocol.task == "fill":
        label = f"{row.picture}, mask {row.mask}, {100 * row.hole_share:.0f} % hole"
        label = f"{label} ({', '.join(kinds)})"
    return (
        f'<div class="card" data-groups="{" ".join(kinds)}"><div class="compare">'
        '<img alt=""><img class="over" alt=""></div>'
        '<input type="range" min="0" max="100" value="50" aria-label="seam between left and right">'
        f'<p class="names"></p><p>{escape(label)}</p>'
        f'<script type="application/json">{held}</script></div>'
    )


def _uri(picture: NDArray[np.uint8]) -> str:
    """Embed as JPEG, at most 512 px."""
    scale = _LARGEST / max(picture.shape[:2])
    if scale < 1:
        size = (max(1, round(picture.shape[1] * scale)), max(1, round(picture.shape[0] * scale)))
        picture = np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA), np.uint8)
    options = [cv2.IMWRITE_JPEG_QUALITY, _QUALITY]
    _, encoded = cv2.imencode(".jpg", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), options)
    return "data:image/jpeg;base64," + base64.b64encode(encoded.tobytes()).decode()
