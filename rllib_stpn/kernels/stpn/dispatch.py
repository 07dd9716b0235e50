"""The STPN op: one signature, several implementations."""

import functools
from collections.abc import Callable

import torch

from rllib_stpn import checks
from rllib_stpn.errors import UsageError, one_of
from rllib_stpn.kernels.availability import numba_is_installed
from rllib_stpn.kernels.stpn.normalizations import NORMALIZATIONS
from rllib_stpn.kernels.stpn.reference import stpn_reference

IMPLEMENTATIONS = ("auto", "fused", "reference")


def stpn(
    inputs: torch.Tensor,
    h: torch.Tensor | None,
    F: torch.Tensor | None,
    weight: torch.Tensor,
    bias: torch.Tensor,
    weight_lambda: torch.Tensor,
    weight_gamma: torch.Tensor,
    *,
    normalize: str | None,
    clamp: float | None,
    recurrent: bool,
    is_first: torch.Tensor | None = None,
    return_energy: bool = False,
    implementation: str = "auto",
) -> tuple[torch.Tensor, torch.Tensor | None, torch.Tensor, torch.Tensor | None]:
    """Short-term plasticity neurons over a sequence.

    Garcia Rodriguez, Guo, Moraitis, "Short-Term Plasticity Neurons Learning to Learn and Forget" (ICML 2022). With
    ``u = [x_t ; h_{t-1}]`` (``x_t`` alone when not recurrent) and norms taken per row, i.e. per postsynaptic
    neuron, one step is::

        G = W + F                          n = ‖G‖ if normalize else 1
        h = tanh(G u / n + b)
        F = F / n                          if normalize == "pre"
        F = clamp(Λ ⊙ F + Γ ⊙ (h uᵀ), ±clamp)
        F = F / ‖W + F‖                    if normalize == "post"

    All gradients flow, through the norms, the start state and the returned state too.

    Args:
        inputs: ``[B, T, I]``, T at least 1.
        h: ``[B, H]`` previous outputs; None is zeros, and the only choice when not recurrent.
        F: ``[B, H, D]`` plastic weights before the first step; None is zeros. ``D = I + H``, or ``I`` when not
            recurrent.
        weight: ``[H, D]`` fixed weights, input columns first.
        bias: ``[H]``.
        weight_lambda: ``[H, D]`` or ``[1]``.
        weight_gamma: ``[H, D]`` or ``[1]``.
        normalize: "pre", "post" or None. "pre" and "post" are different rules.
        clamp: Bound of the absolute value of F, or None.
        recurrent: Whether the neurons see their own previous outputs.
        is_first: ``[B, T]`` bool: h and F are zero before that step.
        return_energy: Whether to measure the energy, without gradient:
            :func:`~rllib_stpn.kernels.synaptic_energy.synaptic_energy`.
        implementation: "reference" is plain torch, for any device and float type; "fused" is the CPU float32
            kernel; "auto" is "fused" wherever it can run.

    Returns:
        Outputs ``[B, T, H]``, final h ``[B, H]`` (None when not recurrent), final F ``[B, H, D]``, energy
        ``[B, T, H]`` (None unless asked for).

    Raises:
        UsageError: An unknown option, shapes that do not fit, or "fused" where it cannot run.
    """
    checks.choice("stpn: normalize", normalize, NORMALIZATIONS)
    checks.choice("stpn: implementation", implementation, IMPLEMENTATIONS)
    _check_shapes(inputs, h, F, weight, bias, weight_lambda, weight_gamma, recurrent, is_first)
    tensors = [t for t in (inputs, h, F, weight, bias, weight_lambda, weight_gamma) if t is not None]
    fits = all(t.device.type == "cpu" and t.dtype == torch.float32 for t in tensors)
    if implementation == "fused" and not fits:
        raise UsageError(
            f"stpn: implementation: got 'fused' for {inputs.dtype} on {inputs.device}, allowed are 'auto', "
            "'reference': 'fused' is for torch.float32 on the CPU"
        )
    run: Callable = stpn_reference
    traced = torch.compiler.is_compiling()  # torch.export and torch.compile look into plain torch alone
    if not traced and (implementation == "fused" or (implementation == "auto" and fits and numba_is_installed())):
        run = _fused()
    return run(
        inputs,
        h,
        F,
        weight,
        bias,
        weight_lambda,
        weight_gamma,
        normalize=normalize,
        clamp=clamp,
        recurrent=recurrent,
        is_first=is_first,
        return_energy=return_energy,
    )


@functools.cache
def _fused() -> Callable:
    try:
        from rllib_stpn.kernels.stpn.fused import stpn_fused
    except ImportError as error:
        raise UsageError(
            f"stpn: implementation: got 'fused' without numba ({error}), allowed are 'auto', 'reference'"
        ) from error
    return stpn_fused


def _check_shapes(inputs, h, F, weight, bias, weight_lambda, weight_gamma, recurrent, is_first):
    if inputs.dim() != 3 or inputs.shape[1] == 0:
        raise UsageError(f"stpn: inputs: got shape {tuple(inputs.shape)}, allowed is [B, T, I] with at least one step")
    batch, steps, input_size = inputs.shape
    hidden_size = weight.shape[0]
    matrix = (hidden_size, input_size + hidden_size if recurrent else input_size)
    expected = {
        "h": (h, ((batch, hidden_size),)),
        "F": (F, ((batch, *matrix),)),
        "weight": (weight, (matrix,)),
        "bias": (bias, ((hidden_size,),)),
        "weight_lambda": (weight_lambda, (matrix, (1,))),
        "weight_gamma": (weight_gamma, (matrix, (1,))),
        "is_first": (is_first, ((batch, steps),)),
    }
    for name, (tensor, allowed) in expected.items():
        if tensor is not None and tuple(tensor.shape) not in allowed:
            raise one_of(f"stpn: shape of {name}", tuple(tensor.shape), allowed)
    if h is not None and not recurrent:
        raise UsageError("stpn: h: got a tensor without recurrence, allowed is None")
    if is_first is not None and is_first.dtype != torch.bool:
        raise one_of("stpn: dtype of is_first", is_first.dtype, (torch.bool,))
