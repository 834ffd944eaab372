"""Link prediction on knowledge graphs with spiking networks: data, models, training, evaluation and explanation."""

from spikewright.graph._evaluate import evaluate as evaluate
from spikewright.graph._evaluate import graph_of as graph_of
from spikewright.graph.classification import auroc as auroc
from spikewright.graph.classification import average_precision as average_precision
from spikewright.graph.data import GraphData as GraphData
from spikewright.graph.data import GraphSplit as GraphSplit
from spikewright.graph.data import graph_names as graph_names
from spikewright.graph.data import load_graph as load_graph
from spikewright.graph.energy import energy_of as energy_of
from spikewright.graph.known import KnownAnswers as KnownAnswers
from spikewright.graph.models import GRSNN as GRSNN
from spikewright.graph.models import LinkScorer as LinkScorer
from spikewright.graph.models import NBFNet as NBFNet
from spikewright.graph.open_world import rank_metrics as rank_metrics
from spikewright.graph.paths import explain as explain
from spikewright.graph.ranking import RankingEvaluator as RankingEvaluator
from spikewright.graph.simulation import OpenWorld as OpenWorld
from spikewright.graph.structure import RelationalGraph as RelationalGraph

__all__ = [
    "GRSNN",
    "GraphData",
    "GraphSplit",
    "KnownAnswers",
    "LinkScorer",
    "NBFNet",
    "OpenWorld",
    "RankingEvaluator",
    "RelationalGraph",
    "auroc",
    "average_precision",
    "energy_of",
    "evaluate",
    "explain",
    "graph_names",
    "graph_of",
    "load_graph",
    "rank_metrics",
]


def __dir__() -> list[str]:
    return __all__
