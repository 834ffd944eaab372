"""Tables for people, and the same as plain values for programs."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from spikewright._util.text import aligned
from spikewright.bench.measure import Spread, Times


@dataclass(frozen=True)
class Table:
    """Contenders side by side.

    Attributes:
        workload: What they did, in a word.
        title: What they did.
        head: Names of the columns.
        rows: Cells as shown.
        results: By contender, the same unrounded, for programs.
        left_out: Contenders that are missing, and why.
        notes: Further sentences.
        ok: Whether the workload went through.
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
        """Return what belongs into a file."""
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
    """Put times into a table: ratios and their spread first, milliseconds second.

    Args:
        workload: In a word.
        title: Of the table.
        times: What was measured.
        references: By the head of a column of ratios, the contender by whose time the others are divided.
        columns: More columns: by head, then by contender, what is shown.
        further: By contender, more values for programs.
        left_out: Contenders that were not even timed.
        notes: Sentences below.
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
