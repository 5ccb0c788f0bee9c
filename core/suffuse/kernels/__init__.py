"""Inner loops: each a plain-torch reference, which is also the path taken on a CPU, and for GPUs a
Triton version of the same meaning in `suffuse.kernels.gpu`.

Nothing here knows schedules, models or plugins; only torch.
"""

from suffuse.kernels.philox import normals, philox4x32, uniforms
from suffuse.kernels.plan_step import guided_step, plan_step

__all__ = ["guided_step", "normals", "philox4x32", "plan_step", "uniforms"]
