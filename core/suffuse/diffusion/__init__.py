"""The mathematics of diffusion: pure functions on tensors, knowing no domain and no registry."""

from suffuse.diffusion import grids, guidance, loops, oracle, prediction, schedules, solvers
from suffuse.diffusion.bridge import Bridge
from suffuse.diffusion.capture import Captured
from suffuse.diffusion.categorical import Categorical
from suffuse.diffusion.discrete_oracle import Discrete
from suffuse.diffusion.noise import Noise, Stream
from suffuse.diffusion.plan import JointPlan, Plan, Row
from suffuse.diffusion.process import Denoiser, Gaussian, Network, Process, Registers
from suffuse.diffusion.product import Product
from suffuse.diffusion.sampling import Step, sample
from suffuse.diffusion.schedules import Coefficients, Schedule

__all__ = [
    "Bridge",
    "Captured",
    "Categorical",
    "Coefficients",
    "Denoiser",
    "Discrete",
    "Gaussian",
    "JointPlan",
    "Network",
    "Noise",
    "Plan",
    "Process",
    "Product",
    "Registers",
    "Row",
    "Schedule",
    "Step",
    "Stream",
    "grids",
    "guidance",
    "loops",
    "oracle",
    "prediction",
    "sample",
    "schedules",
    "solvers",
]
