"""Networks that several domains share, and the embeddings of what steers them."""

from suffuse.nn.conditioning import Label, Number, StateCondition
from suffuse.nn.dit import DiT
from suffuse.nn.graph import GraphBlock
from suffuse.nn.magnitude import MagnitudeUNet
from suffuse.nn.mlp import MLP
from suffuse.nn.network import Network
from suffuse.nn.spacetime import SpaceTimeBlock
from suffuse.nn.uncertainty import Uncertainty
from suffuse.nn.unet import UNet

__all__ = [
    "MLP",
    "DiT",
    "GraphBlock",
    "Label",
    "MagnitudeUNet",
    "Network",
    "Number",
    "SpaceTimeBlock",
    "StateCondition",
    "UNet",
    "Uncertainty",
]
