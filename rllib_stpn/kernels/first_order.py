"""Autograd functions whose backward has no backward of its own, and says so."""

import functools
from typing import Any, TypeVar

import torch

Function = TypeVar("Function", bound=type[torch.autograd.Function])


def first_order(function: Function) -> Function:
    """An autograd function with a backward in numpy: who differentiates its gradients gets an error.

    Torch's ``once_differentiable`` raises only where a gradient that comes in asks for one itself. With
    ``torch.autograd.grad(outputs.sum(), inputs, create_graph=True)``, as gradient penalties have it, none does, and the
    penalty would have no gradient, in silence.
    """
    forward, backward = function.forward, function.backward

    @functools.wraps(forward)
    def kept(ctx: Any, *arguments: Any) -> Any:
        ctx.given = [each for each in arguments if isinstance(each, torch.Tensor) and each.requires_grad]
        return forward(ctx, *arguments)

    @functools.wraps(backward)
    def told(ctx: Any, *gradients: torch.Tensor | None) -> tuple:
        with torch.no_grad():
            results = backward(ctx, *gradients)
        if not torch.is_grad_enabled():  # it is, with create_graph
            return results
        known = [each for each in results if each is not None]
        refused = iter(_Refused.apply(len(known), *known, *ctx.given))
        return tuple(None if each is None else next(refused) for each in results)

    function.forward, function.backward = staticmethod(kept), staticmethod(told)  # type: ignore[assignment]
    return function


class _Refused(torch.autograd.Function):
    """Gradients as they are, on the way to whatever they were computed from."""

    @staticmethod
    def forward(ctx, count, *tensors):
        return tuple(each.view_as(each) for each in tensors[:count])

    @staticmethod
    def backward(ctx, *_):
        raise RuntimeError("the compiled loops have no gradients of second order; in float64 layers take plain torch's")
