"""Check what the sdist and the wheel hold: `archives.py SDIST WHEEL`."""

import sys
import tarfile
import zipfile
from pathlib import PurePosixPath

NEEDED = {"LICENSE", "CHANGELOG.md", "setup.py", "tests/catalogue.py", "docs/extending.md", "examples/rule_swap.py"}
PACKAGE = {"spikewright/__init__.py", "spikewright/py.typed", "spikewright/kernels/native.py"}
CPP = {f"spikewright/kernels/cpp/{name}" for name in ("scan.h", "slopes.h", "lif.cpp", "trace.cpp", "messages.cpp")}
COMPILED = "spikewright/kernels/_native"


def main(sdist: str, wheel: str) -> None:
    with tarfile.open(sdist) as archive:
        source = {str(PurePosixPath(*PurePosixPath(name).parts[1:])) for name in archive.getnames()}
    with zipfile.ZipFile(wheel) as archive:
        built = set(archive.namelist())
    problems = [f"the sdist lacks {name}" for name in sorted((NEEDED | PACKAGE | CPP) - source)]
    problems += [f"the sdist holds {name}" for name in sorted(source) if name.startswith(COMPILED)]
    problems += [f"the wheel lacks {name}" for name in sorted(PACKAGE - built)]
    if not any(name.startswith(COMPILED) for name in built):
        problems.append("the wheel lacks the compiled kernels")
    if not any(name.endswith("/LICENSE") for name in built):
        problems.append("the wheel lacks LICENSE")
    tops = {name.partition("/")[0] for name in built}
    problems += [f"the wheel holds {name}" for name in sorted(tops) if not name.startswith("spikewright")]
    tests = {name for name in built if PurePosixPath(name).name.startswith("test_") or "/tests/" in name}
    problems += [f"the wheel holds the test {name}" for name in sorted(tests)]
    if problems:
        sys.exit("\n".join(problems))
    print(f"sdist: {len(source)} entries, wheel: {len(built)}")


if __name__ == "__main__":
    main(*sys.argv[1:])
