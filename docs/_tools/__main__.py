"""Build the site into `build/site`: `python -m docs._tools`."""

import subprocess
import sys

import yaml

from docs._tools.pages import ROOT, reference, write_pages

BUILD = ROOT / "build"


def main() -> None:
    """Write the pages and the configuration, then build; any warning is an error."""
    BUILD.mkdir(exist_ok=True)
    write_pages(BUILD / "pages")
    config = yaml.safe_load((ROOT / "mkdocs.yml").read_text())
    for section in config["nav"]:
        if section.get("Reference") == []:
            section["Reference"] = [{place[4:-3]: place} for place in reference()]
    (BUILD / "mkdocs.yml").write_text(yaml.safe_dump(config, sort_keys=False))
    command = [sys.executable, "-m", "zensical", "build", "--clean", "--strict", "-f", str(BUILD / "mkdocs.yml")]
    sys.exit(subprocess.run(command, cwd=ROOT).returncode)


if __name__ == "__main__":
    main()
