"""A model: what people train, save, load, sample and evaluate.

`Model` stands on four floors: its `parts`, what it makes (`making`), what it measures (`judging`),
and how it is kept (`keeping`).
"""

from suffuse.model.keeping import FORMAT, Model, load
from suffuse.model.network import Network

__all__ = ["FORMAT", "Model", "Network", "load"]
