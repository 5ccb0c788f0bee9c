"""Networks that several domains share, and the embeddings of what steers them."""

from suffuse.nn.conditioning import Label, Number, StateCondition
from suffuse.nn.dit import DiT
from suffuse.nn.magnitude import MagnitudeUNet
from suffuse.nn.mlp import MLP
from suffuse.nn.network import Network
from suffuse.nn.uncertainty import Uncertainty
from suffuse.nn.unet import UNet

__all__ = [
    "MLP",
    "DiT",
    "Label",
    "MagnitudeUNet",
    "Network",
    "Number",
    "StateCondition",
    "UNet",
    "Uncertainty",
]
