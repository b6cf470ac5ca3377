"""From rows to the numbers of a report: means per bin with intervals, and paired comparisons."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isnan

from retouch.evaluation.distributions import Estimate
from retouch.evaluation.methods import Method
from retouch.evaluation.metrics import Column
from retouch.evaluation.protocols import Protocol
from retouch.evaluation.run import Row
from retouch.evaluation.sets import SetScore
from retouch.evaluation.statistics import Comparison, bootstrap_mean, compare

__all__ = ["Cell", "Results", "summarise"]

ALL = "all"
OTHER = "other"
"""Pictures of no bin."""


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One number of the table."""

    estimate: Estimate
    n: int
    """Pictures behind it."""


@dataclass(frozen=True, kw_only=True)
class Results:
    """Everything a report says."""

    protocol: Protocol
    columns: tuple[Column, ...]
    methods: tuple[Method, ...]
    rows: Mapping[str, Sequence[Row]]
    bins: tuple[str, ...]
    """`all`, then the bins (deblurring: kinds) that hold pictures, then `other` for the rest."""
    cells: Mapping[tuple[str, str, str], Cell]
    """(method, bin, column) -> number."""
    sets: Mapping[str, Mapping[str, SetScore]]
    """Method -> set metric -> score."""
    comparisons: Mapping[tuple[str, str, str], Comparison]
    """(reference, other method, column) -> difference over all pictures."""
    pairs_sha256: str

    @property
    def picture_columns(self) -> tuple[Column, ...]:
        """Columns with one score per picture."""
        return tuple(column for column in self.columns if column.facts.build is not None)

    @property
    def set_columns(self) -> tuple[Column, ...]:
        """Columns with one score per set."""
        return tuple(column for column in self.columns if column.facts.build is None)

    @property
    def reference(self) -> str:
        """The method others are compared with: the first one."""
        return self.methods[0].name

    def count(self, name: str) -> int:
        """Number of pictures in a bin."""
        rows = self.rows[self.reference]
        return sum(1 for row in rows if name in (ALL, row.bin))


def summarise(
    protocol: Protocol,
    columns: Sequence[Column],
    methods: Sequence[Method],
    rows: Mapping[str, Sequence[Row]],
    *,
    sets: Mapping[str, Mapping[str, SetScore]] | None = None,
    pairs_sha256: str = "",
) -> Results:
    """Compute means, intervals and comparisons.

    Args:
        protocol: Whose bins are used.
        columns: What was scored.
        methods: In the table's order; the first is the reference of the comparisons.
        rows: Method -> rows, all of the same pairs in the same order.
        sets: Scores of whole sets.
        pairs_sha256: Identifies the pairs.
    """
    present = {row.bin for row in rows[methods[0].name]}
    known = [*map(str, protocol.bins)]
    order = [*known, *sorted(present - {*known, OTHER}), OTHER]
    bins = (ALL, *(name for name in order if name in present)) if present != {OTHER} else (ALL,)
    own = [column for column in columns if column.facts.build is not None]
    cells: dict[tuple[str, str, str], Cell] = {}
    for method in methods:
        for name in bins:
            chosen = [row for row in rows[method.name] if name in (ALL, row.bin)]
            for column in own:
                values = [row.scores[str(column)] for row in chosen]
                n = sum(not isnan(value) for value in values)
                cells[method.name, name, str(column)] = Cell(estimate=bootstrap_mean(values), n=n)
    reference = methods[0].name
    comparisons: dict[tuple[str, str, str], Comparison] = {}
    for method in methods[1:]:
        for column in own:
            key = str(column)
            first = [row.scores[key] for row in rows[reference]]
            second = [row.scores[key] for row in rows[method.name]]
            comparisons[reference, method.name, key] = compare(first, second)
    return Results(
        protocol=protocol,
        columns=tuple(columns),
        methods=tuple(methods),
        rows=rows,
        bins=bins,
        cells=cells,
        sets=sets or {},
        comparisons=comparisons,
        pairs_sha256=pairs_sha256,
    )
