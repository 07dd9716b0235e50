"""HebbFF without a matrix per step: within a chunk of time, attention to the outputs so far."""

from itertools import repeat

import torch

from rllib_stpn.kernels.hebbff.lags import lags
from rllib_stpn.kernels.states import overwriting

# Steps of a chunk: the work for attention grows with their square, the work for A is done once per chunk.
CHUNK = 16


def hebbff(
    inputs: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor,
    A: torch.Tensor | None,
    keep: torch.Tensor,
    rate: torch.Tensor,
    is_first: torch.Tensor | None = None,
):
    """``h_t = sigmoid((W + A_t) x_t + b)``, ``A_{t+1} = keep A_t + rate h_t x_tᵀ``, on the CPU in float32.

    From the start of a chunk, ``A_t = keep^t A_0 + rate Σ_{s<t} keep^(t-1-s) h_s x_sᵀ``. A step needs only ``A_t x_t``,
    which is attention to ``h_s`` with the weights ``rate keep^(t-1-s) x_s·x_t`` (Ba, Hinton, Mnih, Leibo, Ionescu,
    "Using Fast Weights to Attend to the Recent Past", NIPS 2016, section 4).

    Args:
        inputs: ``[B, T, I]``.
        weight: ``[H, I]``.
        bias: ``[H]``.
        A: ``[B, H, I]``; None is zeros.
        keep: ``[1]``.
        rate: ``[1]``.
        is_first: ``[B, T]`` bool: A is zero before that step.

    Returns:
        Outputs ``[B, T, H]``, final A. No gradients of second order.
    """
    if inputs.shape[1] <= CHUNK:
        return _chunk(inputs, weight, bias, A, keep, rate, is_first)
    outputs = []
    masks = repeat(None) if is_first is None else is_first.split(CHUNK, 1)
    for x, mask in zip(inputs.split(CHUNK, 1), masks, strict=False):
        output, A = _chunk(x, weight, bias, A, keep, rate, mask)
        outputs.append(output)
    return torch.cat(outputs, 1), A


def _chunk(x, weight, bias, A, keep, rate, is_first):
    from rllib_stpn.kernels.hebbff.autograd import Attention  # needs numba

    steps = x.shape[1]
    episode = None if is_first is None else is_first.cumsum(1)  # [B, C]
    read = None
    if A is not None:
        kept = keep ** torch.arange(steps + 1, dtype=x.dtype)[:, None]  # [C + 1, 1]
        read = torch.bmm(x, A.transpose(1, 2)) * kept[:-1]  # [B, C, H]
        read = read if episode is None else torch.where(episode[:, :, None] == 0, read, 0.0)
    if steps > 1:
        h = Attention.apply(x, weight, bias, read, keep, rate, is_first)
    else:
        drive = torch.nn.functional.linear(x, weight, bias)
        h = torch.sigmoid(drive if read is None else drive + read)
    post = h * (rate * keep ** torch.from_numpy(lags(steps)[-1, :, None]))
    if episode is not None:
        of_last = (episode == episode[:, -1:])[:, :, None]
        post, x = torch.where(of_last, post, 0.0), torch.where(of_last, x, 0.0)
        A = None if A is None else torch.where(episode[:, -1, None, None] == 0, A, 0.0)
    if A is None:
        return h, torch.bmm(post.transpose(1, 2), x)
    in_place = overwriting() and not torch.is_grad_enabled()
    A = A.mul_(kept[-1]) if in_place else A * kept[-1]
    return h, A.baddbmm_(post.transpose(1, 2), x)
