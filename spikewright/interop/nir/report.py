"""What was written to NIR, and how it was read back."""

from dataclasses import dataclass, field

from spikewright._util.text import aligned


@dataclass(frozen=True)
class NIRRow:
    """One reader of a file, compared with the network that was written.

    Attributes:
        reader: Name of the reader: "interpreter", "spikewright" (`from_nir`), or a library.
        version: Its version; empty for the first two.  Default: "".
        compared: Number of output values compared, at least 0; 0 if it did not run.  Default: 0.
        differing: Number of them that differ, at least 0: spikes at all, other outputs by more than rounding.
            Default: 0.
        refused: Why it did not read or run the file; empty if it did.  Default: "".

    >>> from spikewright.interop.nir import NIRRow
    >>> NIRRow("norse", "1.1.0", compared=480, differing=0).agrees
    True
    """

    reader: str
    version: str = ""
    compared: int = 0
    differing: int = 0
    refused: str = ""

    @property
    def agrees(self) -> bool:
        """True if the reader ran the file and no value differs."""
        return not self.refused and self.differing == 0


@dataclass(frozen=True)
class NIRReport:
    """What `to_nir` found about the file that it wrote.

    Attributes:
        path: The file.
        dt: Duration of a step in seconds, > 0, which a reader has to be told.
        rows: One for each reader, instances of `NIRRow`.
        neurons: Number of spikes of each neuron layer on the input, by name; all were compared with the equations of
            the file.  Default: `{}`.
        rounding: Number of neurons and steps, at least 0, whose spike differs from those equations by rounding: the
            potential is at the threshold, within the precision of the network.  Default: 0.

    >>> from spikewright.interop.nir import NIRReport, NIRRow
    >>> row = NIRRow("norse", "1.1.0", compared=480, differing=0)
    >>> print(NIRReport("net.nir", 1e-4, (row,), {"lif": 0}).table())
    reader  version  compared  differing  why not
    norse   1.1.0    480       0          -
    >>> NIRReport("net.nir", 1e-4, (row,), {"lif": 0}).silent
    ('lif',)
    """

    path: str
    dt: float
    rows: tuple[NIRRow, ...]
    neurons: dict[str, int] = field(default_factory=dict[str, int])
    rounding: int = 0

    @property
    def silent(self) -> tuple[str, ...]:
        """Names of neuron layers that never fired on the input, of which it proves little."""
        return tuple(name for name, count in self.neurons.items() if not count)

    def table(self) -> str:
        """Return the rows as text."""
        rows = [["reader", "version", "compared", "differing", "why not"]]
        for row in self.rows:
            counts = ["-", "-"] if row.refused else [str(row.compared), str(row.differing)]
            rows.append([row.reader, row.version or "-", *counts, row.refused or "-"])
        return aligned(rows)

    def __str__(self) -> str:
        return self.table()
