"""Benchmark tables as text and as plain values."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from spikewright._util.text import aligned
from spikewright.bench.measure import Spread, Times


@dataclass(frozen=True)
class Table:
    """Results of contenders side by side. `str(table)` is aligned text.

    Attributes:
        workload: Name of the workload.
        title: Description of the workload.
        head: Column names. Default: ().
        rows: Cells as text. Default: ().
        results: Unrounded values of each contender. Default: no values.
        left_out: Reason of each contender that is missing. Default: none.
        notes: Further sentences. Default: ().
        ok: False if the workload failed. Default: True.
    """

    workload: str
    title: str
    head: Sequence[str] = ()
    rows: Sequence[Sequence[str]] = ()
    results: Mapping[str, Any] = field(default_factory=dict)
    left_out: Mapping[str, str] = field(default_factory=dict)
    notes: Sequence[str] = ()
    ok: bool = True

    def __str__(self) -> str:
        body = [aligned([self.head, *self.rows])] if self.rows else []
        missing = [f"left out: {name}: {why}" for name, why in self.left_out.items()]
        return "\n".join([f"{self.workload}: {self.title}", *body, *missing, *self.notes])

    def plain(self) -> dict[str, Any]:
        """Return the table as plain values for JSON."""
        return {
            "workload": self.workload,
            "title": self.title,
            "ok": self.ok,
            "results": dict(self.results),
            "left_out": dict(self.left_out),
            "notes": list(self.notes),
        }


def timed(
    workload: str,
    title: str,
    times: Times,
    references: Mapping[str, str],
    columns: Mapping[str, Mapping[str, str]] | None = None,
    further: Mapping[str, Mapping[str, Any]] | None = None,
    left_out: Mapping[str, str] | None = None,
    notes: Sequence[str] = (),
) -> Table:
    """Return a table of times: ratios with quartiles first, milliseconds second.

    Args:
        workload: Name of the workload.
        title: Description of the workload.
        times: `Times` of the contenders.
        references: For each column of ratios, the contender whose time is the denominator.
        columns: Further columns: cells by contender, by column name. Default: None, no columns.
        further: Further values of each contender for JSON. Default: None, no values.
        left_out: Reasons of contenders that were not timed. Default: None, no contenders.
        notes: Sentences below the table. Default: ().
    """
    columns, further = columns or {}, further or {}
    rows, results = [], {}
    for name, seconds in times.seconds.items():
        ratios = {head: times.ratios(name, reference) for head, reference in references.items()}
        spreads = {head: Spread.of(values) if values else None for head, values in ratios.items()}
        milliseconds = Spread.of([1000 * s for s in seconds])
        shown = [str(spread or "-") for spread in spreads.values()]
        rows.append([name, *shown, f"{milliseconds.median:.4g}", *(cells.get(name, "-") for cells in columns.values())])
        results[name] = {
            "ratios": {
                reference: {**asdict(spread), "by_repeat": ratios[head]}
                for (head, reference), spread in zip(references.items(), spreads.values())
                if spread
            },
            "milliseconds": asdict(milliseconds),
            "seconds": seconds,
            **further.get(name, {}),
        }
    head = ["", *references, "ms", *columns]
    return Table(workload, title, head, rows, results, {**(left_out or {}), **times.left_out}, notes)
