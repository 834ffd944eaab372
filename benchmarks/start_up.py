"""Time until the command line answers and until the library is imported, beside Python and torch by themselves.

Every line is a process of its own; they run in turn in every repeat, and the least time of each is shown: other work on
the machine only adds to it.

python benchmarks/start_up.py [--repeats 20]
"""

import argparse
import subprocess
import sys
import time

COMMAND = "import sys; from spikewright.cli.__main__ import main; sys.exit(main())"
"""What the installed script does."""
LIGHT = {
    "python -c pass": ["pass"],
    "import spikewright": ["import spikewright"],
    **{
        f"spikewright {line}": [COMMAND, *line.split()]
        for line in (
            "--version",
            "--help",
            "train --help",
            "list rules",
            "list optimizers",
            "trian",
            "train --epoch 3",
            "train --epochs many",
            "evaluate",
            "train --rule otttt",
        )
    },
}
EVERY_NAME = "import spikewright as sw; [getattr(sw, name) for name in sw.__all__]"
HEAVY = {
    "import torch": ["import torch"],
    "import spikewright": ["import spikewright"],
    "from spikewright import LIF": ["from spikewright import LIF"],
    "every public name": [EVERY_NAME],
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=20)
    repeats = parser.parse_args().repeats
    show(LIGHT, repeats)
    show(HEAVY, max(repeats // 4, 3))


def show(commands: dict[str, list[str]], repeats: int) -> None:
    """Print the time of each command, and its ratio to that of the first."""
    least = dict.fromkeys(commands, float("inf"))
    for _ in range(repeats):
        for name, arguments in commands.items():
            least[name] = min(least[name], taken(arguments))
    first = least[next(iter(commands))]
    print(f"{'':34} {'ms':>8} {'ratio':>6}")
    for name, seconds in least.items():
        print(f"{name:34} {1e3 * seconds:8.1f} {seconds / first:6.2f}", flush=True)


def taken(arguments: list[str]) -> float:
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
