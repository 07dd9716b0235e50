"""STPN by the compiled loops: over columns, or over samples where the layer is small."""

import math

import torch

from rllib_stpn.kernels.simd.vector import LANES
from rllib_stpn.kernels.stpn.columns.autograd import ColumnsSTPN, columns_without_gradients
from rllib_stpn.kernels.stpn.normalizations import NORMALIZATIONS
from rllib_stpn.kernels.stpn.samples.autograd import SamplesSTPN

# Bytes of the E of sixteen samples over a sequence up to which they go side by side in the lanes of vectors.
LANES_BYTES = 2**20


def stpn_fused(
    inputs,
    h,
    F,
    weight,
    bias,
    weight_lambda,
    weight_gamma,
    *,
    normalize,
    clamp,
    recurrent,
    is_first=None,
    return_energy=False,
):
    """STPN over a sequence on the CPU in float32; arguments and results as in :func:`rllib_stpn.kernels.stpn.stpn`."""
    tensors = (inputs, h, F, weight, bias, weight_lambda, weight_gamma)
    save = torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in tensors)
    bound = math.inf if clamp is None else clamp
    options = (is_first, NORMALIZATIONS[normalize], bound)
    spent = None
    if not return_energy and fits_lanes(inputs, weight):
        out, F = SamplesSTPN.apply(*tensors, *options, save)
    else:
        run = ColumnsSTPN.apply if save else columns_without_gradients
        out, F, spent = run(*tensors, *options, return_energy)
    h = out[:, -1].clone() if recurrent else None  # Who changes the outputs in place does not change the state.
    return out, h, F, spent if return_energy else None


def fits_lanes(inputs: torch.Tensor, weight: torch.Tensor) -> bool:
    """Whether the layer is small, and the batch large enough to fill vectors and worth laying out anew."""
    batch, steps, _ = inputs.shape
    return batch >= LANES // 2 and steps >= 4 and 4 * LANES * (steps + 2) * weight.numel() <= LANES_BYTES
