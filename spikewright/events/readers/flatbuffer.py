"""Tables of FlatBuffers, as far as AEDAT 4 needs them, with every position checked."""

import struct
from dataclasses import dataclass


class Malformed(Exception):
    """A position or a number of a buffer points outside of it."""


@dataclass(frozen=True)
class Table:
    """A table of a buffer.

    Args:
        data: The buffer.
        position: Where the table begins.
    """

    data: bytes
    position: int

    def number(self, field: int, code: str, default: int) -> int:
        """Return a number of the table, or the default if it is not stored.

        Args:
            field: Number of the field, from 0.
            code: Type of the number, as `struct` names it, such as "<q".
            default: Value of a field that is not stored.
        """
        place = self.place(field)
        return default if place is None else unpacked(self.data, place, code)

    def place(self, field: int) -> int | None:
        """Return the position of a field, or `None` if it is not stored."""
        vtable = self.position - unpacked(self.data, self.position, "<i")
        if vtable < 0 or 4 + 2 * field >= unpacked(self.data, vtable, "<H"):
            return None
        offset = unpacked(self.data, vtable + 4 + 2 * field, "<H")
        return self.position + offset if offset else None

    def vector(self, field: int, size: int) -> tuple[int, int]:
        """Return the position of the first entry of a vector, and the number of entries; (0, 0) if it is not stored.

        Args:
            field: Number of the field, from 0.
            size: Bytes of an entry.
        """
        place = self.place(field)
        if place is None:
            return 0, 0
        start = place + unpacked(self.data, place, "<I")
        count = unpacked(self.data, start, "<I")
        if start + 4 + count * size > len(self.data):
            raise Malformed(f"a list of {count} entries does not fit into {len(self.data)} bytes")
        return start + 4, count


def root(data: bytes, identifier: bytes) -> Table:
    """Return the root table of a buffer that begins with its size and has an identifier.

    Args:
        data: The buffer, its size of 4 bytes included.
        identifier: Four letters that name its type.

    Raises:
        Malformed: Size or identifier differ.
    """
    if len(data) < 12 or unpacked(data, 0, "<I") != len(data) - 4 or data[8:12] != identifier:
        raise Malformed(f"it has {len(data)} bytes and begins with {data[:12].hex()}, not as {identifier.decode()}")
    return Table(data, 4 + unpacked(data, 4, "<I"))


def unpacked(data: bytes, position: int, code: str) -> int:
    """Return one number of a buffer.

    Raises:
        Malformed: It does not lie in the buffer.
    """
    if not 0 <= position <= len(data) - struct.calcsize(code):
        raise Malformed(f"position {position} is outside of {len(data)} bytes")
    return struct.unpack_from(code, data, position)[0]
