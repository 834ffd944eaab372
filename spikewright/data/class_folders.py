"""Which files of a tree of class folders are images, and what is left out."""

from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from spikewright.data.files import missing
from spikewright.data.optional import optional_import

LAYOUT = "images as train/<class>/*.png and test/<class>/*.png"
FORMATS = ("PNG", "JPEG", "BMP", "GIF", "PPM", "TIFF", "WEBP")
"""Formats that are read, whatever the name of a file says; others may run other programs."""
_OF_SYSTEMS = {"thumbs.db", "desktop.ini", "__macosx"}


@dataclass(frozen=True)
class Noticed:
    """Files of class folders that are left out, or read in a way that may surprise.

    Attributes:
        left_out: Files and folders that are not read, by the reason.
        read_so: Images that are read in a way that may surprise, by that way.
        warned: Warnings of Pillow, such as of damaged metadata.
    """

    left_out: dict[str, list[Path]] = field(default_factory=dict[str, list[Path]])
    read_so: dict[str, list[Path]] = field(default_factory=dict[str, list[Path]])
    warned: list[str] = field(default_factory=list[str])

    def message(self, dataset: str, images: int, kind: str = "images") -> str | None:
        """Return what is left out and what is special, each with a number and an example; `None` if nothing is.

        Args:
            dataset: Name of the data set.
            images: Number of images, or other files, that were read.
            kind: What the files are.  Default: "images".
        """
        parts = [f"{_counted(paths)} {reason}" for reason, paths in self.read_so.items()]
        if self.left_out:
            parts.append("left out: " + "; ".join(f"{_counted(p)} {reason}" for reason, p in self.left_out.items()))
        if self.warned:
            parts.append(f"Pillow warned {len(self.warned)} times, first: {self.warned[0].rstrip('.')}")
        return f"'{dataset}' read {images} {kind}. " + ". ".join(parts) + "." if parts else None


def _counted(paths: list[Path]) -> str:
    return f"{len(paths)} ({paths[0]}{', ...' if len(paths) > 1 else ''})"


def image_endings() -> frozenset[str]:
    """Return the endings of files of `FORMATS` that Pillow can read, in lower case.

    Raises:
        ImportError: Pillow is not installed.
    """
    image = optional_import("PIL.Image", "Reading images from class folders")
    image.init()
    return frozenset(ending for ending, kind in image.registered_extensions().items() if kind in FORMATS)


def list_images(dataset: str, root: Path, noticed: Noticed) -> tuple[dict[str, list[Path]], dict[str, list[Path]]]:
    """Return the images of each class in `root/train` and in `root/test`, classes and files in order.

    All images anywhere below a class folder are of that class.

    Args:
        dataset: Name of the data set, for messages.
        root: Folder with `train` and `test`.
        noticed: Takes what is left out.

    Raises:
        DatasetMissing: A part is not there or has no class folder.
        ImportError: Pillow is not installed.
    """
    return list_files(dataset, root, noticed, image_endings(), LAYOUT, "images")


def list_files(
    dataset: str, root: Path, noticed: Noticed, endings: Collection[str], layout: str, kind: str
) -> tuple[dict[str, list[Path]], dict[str, list[Path]]]:
    """Return the files of each class in `root/train` and in `root/test`, classes and files in order.

    Args:
        dataset: Name of the data set, for messages.
        root: Folder with `train` and `test`.
        noticed: Takes what is left out.
        endings: Endings of the files that count, in lower case with their dot.
        layout: Description of the expected files, for messages.
        kind: What the files are, for messages, such as "images".

    Raises:
        DatasetMissing: A part is not there or has no class folder.
    """
    for part in ("train", "test"):
        if not (root / part).is_dir():
            raise missing(dataset, root, layout)
    for entry in sorted(root.iterdir()):
        if entry.is_dir() and entry.name not in ("train", "test") and not _is_hidden(entry):
            _add(noticed.left_out, "folders beside train and test", entry)
    train, test = (_listing(dataset, root / part, endings, noticed, kind) for part in ("train", "test"))
    return train, test


def _listing(dataset: str, part: Path, endings: Collection[str], noticed: Noticed, kind: str) -> dict[str, list[Path]]:
    classes: dict[str, list[Path]] = {}
    for entry in sorted(part.iterdir()):
        if _is_hidden(entry):
            _add(noticed.left_out, "hidden, or of an operating system", entry)
        elif entry.is_dir():
            found = _files(entry, entry, endings, noticed, kind)
            classes[entry.name] = sorted(found, key=lambda p: (str(p.parent), p.name))
        else:
            _add(noticed.left_out, "in no class folder", entry)
    if not classes:
        raise missing(dataset, part, "a folder for each class")
    return classes


def _files(top: Path, folder: Path, endings: Collection[str], noticed: Noticed, kind: str) -> Iterator[Path]:
    for entry in sorted(folder.iterdir()):
        if _is_hidden(entry):
            _add(noticed.left_out, "hidden, or of an operating system", entry)
        elif entry.is_symlink() and entry.is_dir() and folder.resolve().is_relative_to(entry.resolve()):
            _add(noticed.left_out, "linked to a folder that holds it", entry)
        elif entry.is_dir():
            yield from _files(top, entry, endings, noticed, kind)
        elif entry.suffix.lower() not in endings:
            _add(noticed.left_out, f"without an ending of {kind}", entry)
        else:
            if folder != top:
                _add(noticed.read_so, f"in folders inside class folders, as {kind} of the outer one", entry)
            yield entry


def _is_hidden(entry: Path) -> bool:
    return entry.name.startswith(".") or entry.name.lower() in _OF_SYSTEMS


def _add(where: dict[str, list[Path]], reason: str, entry: Path) -> None:
    where.setdefault(reason, []).append(entry)
