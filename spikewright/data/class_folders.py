"""Which files of a tree of class folders are images, and what is left out."""

from collections.abc import Iterator
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

    def message(self, dataset: str, images: int) -> str | None:
        """Return what is left out and what is special, each with a number and an example; `None` if nothing is.

        Args:
            dataset: Name of the data set.
            images: Number of images that were read.
        """
        parts = [f"{_counted(paths)} {reason}" for reason, paths in self.read_so.items()]
        if self.left_out:
            parts.append("left out: " + "; ".join(f"{_counted(p)} {reason}" for reason, p in self.left_out.items()))
        if self.warned:
            parts.append(f"Pillow warned {len(self.warned)} times, first: {self.warned[0].rstrip('.')}")
        return f"'{dataset}' read {images} images. " + ". ".join(parts) + "." if parts else None


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
    endings = image_endings()
    for part in ("train", "test"):
        if not (root / part).is_dir():
            raise missing(dataset, root, LAYOUT)
    for entry in sorted(root.iterdir()):
        if entry.is_dir() and entry.name not in ("train", "test") and not _is_hidden(entry):
            _add(noticed.left_out, "folders beside train and test", entry)
    train, test = (_listing(dataset, root / part, endings, noticed) for part in ("train", "test"))
    return train, test


def _listing(dataset: str, part: Path, endings: frozenset[str], noticed: Noticed) -> dict[str, list[Path]]:
    classes: dict[str, list[Path]] = {}
    for entry in sorted(part.iterdir()):
        if _is_hidden(entry):
            _add(noticed.left_out, "hidden, or of an operating system", entry)
        elif entry.is_dir():
            classes[entry.name] = sorted(_images(entry, entry, endings, noticed), key=lambda p: (str(p.parent), p.name))
        else:
            _add(noticed.left_out, "in no class folder", entry)
    if not classes:
        raise missing(dataset, part, "a folder for each class")
    return classes


def _images(top: Path, folder: Path, endings: frozenset[str], noticed: Noticed) -> Iterator[Path]:
    for entry in sorted(folder.iterdir()):
        if _is_hidden(entry):
            _add(noticed.left_out, "hidden, or of an operating system", entry)
        elif entry.is_symlink() and entry.is_dir() and folder.resolve().is_relative_to(entry.resolve()):
            _add(noticed.left_out, "linked to a folder that holds it", entry)
        elif entry.is_dir():
            yield from _images(top, entry, endings, noticed)
        elif entry.suffix.lower() not in endings:
            _add(noticed.left_out, "without an ending of images", entry)
        else:
            if folder != top:
                _add(noticed.read_so, "in folders inside class folders, as images of the outer one", entry)
            yield entry


def _is_hidden(entry: Path) -> bool:
    return entry.name.startswith(".") or entry.name.lower() in _OF_SYSTEMS


def _add(where: dict[str, list[Path]], reason: str, entry: Path) -> None:
    where.setdefault(reason, []).append(entry)
