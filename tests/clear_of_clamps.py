"""Random draws for comparisons of gradients: at a clamp's bound the gradient jumps, so there two roundings differ."""

import torch
from torch.overrides import TorchFunctionMode

MARGIN = 1e-5  # a hundred roundings of float32 at values of about 1


class Clamps(TorchFunctionMode):
    """Notes the least distance of a value from the bound that it is clamped to."""

    margin = float("inf")

    def __torch_function__(self, func, types, args=(), kwargs=None):
        if func in (torch.clamp, torch.Tensor.clamp):
            values, low, high = args
            distances = ((values - bound).abs().min().item() for bound in (low, high))
            self.margin = min(self.margin, *distances)
        return func(*args, **(kwargs or {}))


def clear_of_clamps(draw, run):
    """The first of ``draw(0), draw(1), ...`` with which ``run``, in float64, clamps no value near its bound."""
    for seed in range(200):
        drawn = draw(seed)
        with torch.no_grad(), Clamps() as clamps:
            run(drawn)
        if clamps.margin > MARGIN:
            return drawn
    raise AssertionError("no draw is clear of the clamp")
