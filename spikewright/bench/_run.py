"""Run workloads one after the other."""

from collections.abc import Iterator

from spikewright._util.arguments import shown
from spikewright.bench.measure import Tell, reason
from spikewright.bench.report import Table
from spikewright.bench.settings import BenchSettings
from spikewright.bench.workloads import WORKLOADS
from spikewright.errors import ConfigError, nearest


def run(settings: BenchSettings, tell: Tell = lambda line: None) -> Iterator[Table]:
    """Run the workloads of the settings and yield their tables; a workload that fails yields a table with the reason.

    Args:
        settings: `BenchSettings`.
        tell: Function called with a line of progress. Default: a function that does nothing.

    Raises:
        ConfigError: A workload is unknown.
    """
    for name in settings.workloads:
        if not isinstance(name, str) or name not in WORKLOADS:
            raise ConfigError(f"There is no workload {shown(name)}. {nearest(name, WORKLOADS)}")
    for name in settings.workloads:
        try:
            yield from WORKLOADS[name](settings, lambda line, name=name: tell(f"{name}: {line}"))
        except Exception as error:
            yield Table(name, "failed", left_out={"a result": reason(error)}, ok=False)
