"""Read a file of events of any format, chosen by what the file begins with."""

from collections.abc import Callable
from pathlib import Path

from spikewright._util.ranges import check_counts
from spikewright.errors import ConfigError, DatasetCorrupt
from spikewright.events.readers import aedat2, aedat3, aedat4, spikes
from spikewright.events.readers.aedat2 import read_aedat2
from spikewright.events.readers.aedat3 import read_aedat3
from spikewright.events.readers.aedat4 import read_aedat4
from spikewright.events.readers.content import Content, content_of
from spikewright.events.readers.dat import read_dat
from spikewright.events.readers.evt2 import read_evt2
from spikewright.events.readers.evt3 import read_evt3
from spikewright.events.readers.nmnist import read_nmnist
from spikewright.events.readers.prophesee import header
from spikewright.events.readers.spikes import read_spikes
from spikewright.events.recording import Events

KNOWN = "N-MNIST (.bin), AEDAT 2.0 of a DVS128, AEDAT 3.1, AEDAT 4, Prophesee DAT 2, EVT 2.0, EVT 3.0, SHD and SSC"
_MAGIC: list[tuple[bytes, Callable[..., Events]]] = [
    (aedat2.MAGIC, read_aedat2),
    (aedat3.MAGIC, read_aedat3),
    (aedat4.MAGIC, read_aedat4),
    (spikes.MAGIC, read_spikes),
]
_EVT: dict[str | None, Callable[..., Events]] = {None: read_dat, "2.0": read_evt2, "3.0": read_evt3}


def read(path: Path | str, height: int | None = None, width: int | None = None, row: int | None = None) -> Events:
    """Read a file of events; its format is told by its first bytes.

    | begins with | reader | sizes and rows that it takes |
    |---|---|---|
    | `#!AER-DAT2.0` | `read_aedat2` | none |
    | `#!AER-DAT3.1` | `read_aedat3` | `height`, `width` of a camera that is not known |
    | `#!AER-DAT4.0` | `read_aedat4` | none |
    | `%` and a line with a version of EVT | `read_evt2`, `read_evt3` | `height`, `width`, if the header has none |
    | `%` and no such line | `read_dat` | `height`, `width`, if the header has none |
    | the mark of HDF5 | `read_spikes` | `row` |
    | anything else, in a file `.bin` | `read_nmnist` | `height`, `width` of a sensor that is not that of N-MNIST |

    Args:
        path: The file.
        height: Rows of the sensor, at least 1.  Default: None, as the file or the format says.
        width: Columns of the sensor, at least 1.  Default: None, as the file or the format says.
        row: Number of a recording in an HDF5 file, at least 0.  Default: None, the only one.

    Raises:
        DatasetCorrupt: The file is of no known format, or damaged.
        ConfigError: An argument is out of its range, or the format does not take it.
        InputError: An HDF5 file holds several recordings, and `row` is not given or too large.
        ImportError: A package that the format needs is not installed.

    >>> from pathlib import Path
    >>> from tempfile import TemporaryDirectory
    >>> from spikewright.events import read
    >>> with TemporaryDirectory() as folder:
    ...     path = Path(folder, "00002.bin")
    ...     _ = path.write_bytes(bytes([10, 20, 0x80, 0x01, 0x02, 11, 20, 0x00, 0x01, 0x05]))
    ...     events = read(path)
    >>> len(events), events.height, events.duration
    (2, 34, 4)
    """
    check_counts("read", optional=True, height=height, width=width)
    check_counts("read", least=0, optional=True, row=row)
    reader = reader_of(path)
    given = {name: value for name, value in (("height", height), ("width", width), ("row", row)) if value is not None}
    takes = {read_aedat2: set[str](), read_aedat4: set[str](), read_spikes: {"row"}}.get(reader, {"height", "width"})
    for name in given.keys() - takes:
        raise ConfigError(
            f"read({name}={given[name]}) was asked for {path}, which is read by {reader.__name__}. That takes "
            f"{' and '.join(sorted(takes)) or 'no such argument'}. Leave {name} out."
        )
    return reader(path, **given)


def reader_of(path: Path | str) -> Callable[..., Events]:
    """Return the reader of a file, by its first bytes.

    Args:
        path: The file.

    Raises:
        DatasetCorrupt: The file cannot be read, is empty, or of no known format.
    """
    content = content_of(path, "a file of events", 2**16)
    for magic, reader in _MAGIC:
        if content.data.startswith(magic):
            return reader
    if (found := header(content)).lines:
        version = found.version
        if version in _EVT:
            return _EVT[version]
        raise _unknown(content, f"its header at byte 0 names EVT {version}")
    if content.data.startswith(b"#!AER-DAT") or content.path.suffix.lower() != ".bin":
        raise _unknown(content, f"at byte 0 it begins with {content.data[:16]!r}")
    return read_nmnist


def _unknown(content: Content, found: str) -> DatasetCorrupt:
    return DatasetCorrupt(
        f"{content.path} was to be read as a file of events, but {found}, which no reader here knows. What is read by "
        f"guessing cannot be trusted. Known: {KNOWN}. Convert it to one of these."
    )
