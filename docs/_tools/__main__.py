"""Build the site into `build/site` and check it: `python -m docs._tools`."""

import os
import subprocess
import sys

import yaml

from docs._tools.check import complaints
from docs._tools.pages import ROOT, reference, unlisted, write_pages

BUILD = ROOT / "build"


def main() -> int:
    """Write pages and configuration, build, and look at the result; any warning is an error.  Return the exit code."""
    write_pages(BUILD / "pages")
    text = (ROOT / "mkdocs.yml").read_text()
    config = yaml.safe_load(text)
    names = [{place[4:-3].removeprefix("spikewright."): place} for place in reference()]
    config["nav"] += [{"Reference": names}, {"More": unlisted(text)}]
    (BUILD / "mkdocs.yml").write_text(yaml.safe_dump(config, sort_keys=False))
    command = [sys.executable, "-m", "zensical", "build", "--clean", "--strict", "-f", str(BUILD / "mkdocs.yml")]
    code = subprocess.run(command, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}).returncode
    found = list(complaints(BUILD / "site")) if code == 0 else []
    print(*found, sep="\n", file=sys.stderr)
    return code or bool(found)


if __name__ == "__main__":
    sys.exit(main())
