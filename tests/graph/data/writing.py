"""Small files of triples."""

import gzip
from pathlib import Path

PARTS = {
    "train": "a\tknows\tb\nb\tlikes\ta\nc\tknows\ta\n",
    "valid": "d\tknows\tb\n",
    "test": "b\thates\tc\ne\tlikes\td\n",
}


def write(folder: Path, parts: dict[str, str] | None = None, packed: bool = False) -> Path:
    """Write each part to its file; entities appear in the order a to e, relations as knows, likes, hates."""
    folder.mkdir(parents=True, exist_ok=True)
    for part, text in (PARTS if parts is None else parts).items():
        if packed:
            (folder / f"{part}.txt.gz").write_bytes(gzip.compress(text.encode()))
        else:
            (folder / f"{part}.txt").write_bytes(text.encode())
    return folder
