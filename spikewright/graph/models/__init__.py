"""Link-prediction models."""

from spikewright.graph.models._scorer import LinkScorer as LinkScorer
from spikewright.graph.models.grsnn import GRSNN as GRSNN
from spikewright.graph.models.nbfnet import NBFNet as NBFNet
