"""Layers as a user may write them, right and wrong, for tests that name them by their path."""

import torch

from rllib_stpn.layers import Layer, PlasticRecurrence


class Plain(Layer):
    def state_shapes(self):
        return {"h": (self.hidden_size,)}

    def step(self, x, drive, state, return_energy):
        h = 0.5 * state["h"] + x.mean(1, keepdim=True)
        return h, {"h": h}, None


class Options(Plain):
    """Options.

    Args:
        input_size: Features.
        keep: Described
            over two lines.
    """

    def __init__(self, input_size, hidden_size, needed, keep=0.5, *, num_layers=3, scale=(1.0, 2.0)):
        super().__init__(input_size, hidden_size)
        if keep > 1:
            raise RuntimeError("keep is too large")
        self.num_layers = num_layers
        self.needed = torch.nn.Parameter(torch.full((hidden_size, num_layers), float(needed)))


class Wide(Plain):
    def __init__(self, input_size, hidden_size):
        super().__init__(input_size, hidden_size)
        self.output_size = 2 * hidden_size
        self.weight = torch.nn.Parameter(torch.randn(hidden_size, input_size))

    def step(self, x, drive, state, return_energy):
        h = torch.tanh(0.5 * state["h"] + x @ self.weight.T)
        return torch.cat([h, -h], 1), {"h": h}, None


class Noting(Wide):
    """Its state has what is noted beside its parameters."""

    noted = None

    def get_extra_state(self):
        return self.noted

    def set_extra_state(self, noted):
        self.noted = noted


class Rule(PlasticRecurrence):
    def update(self, state, output):
        return {"Hebb": 0.9 * state["Hebb"] + 0.1 * output[:, :, None] * state["h"][:, None, :]}


class NoRule(PlasticRecurrence):
    pass


class NoStep(Layer):
    def state_shapes(self):
        return {}


class NoShapes(Layer):
    def step(self, x, drive, state, return_energy):
        return x, {}, None


class AnyOptions(Plain):
    def __init__(self, input_size, hidden_size, **options):
        super().__init__(input_size, hidden_size)


class OtherSizes(Plain):
    def __init__(self, features, units):
        super().__init__(features, units)


class Outer:
    class Inner(Plain):
        pass


class NoLayer(torch.nn.LSTM):
    pass


def a_function():
    pass


class Taken(Plain):
    """An option with the name of a setting that stands around the layer."""

    def __init__(self, input_size, hidden_size, *, fcnet_hiddens=2):
        super().__init__(input_size, hidden_size)


class EvenInputs(Wide):
    """It takes not every number of inputs."""

    def __init__(self, input_size, hidden_size):
        if input_size % 2:
            raise ValueError("heads need an even number of inputs")
        super().__init__(input_size, hidden_size)


class IgnoresResets(Wide):
    def run(self, inputs, state, is_first, return_energy):
        return self.run_steps(inputs, state, None, return_energy)


class Fails(Wide):
    def step(self, x, drive, state, return_energy):
        raise RuntimeError("no step")


class Counts(Plain):
    """A window of the last inputs, and how many there were so far: leaves of other shapes than one per unit."""

    def __init__(self, input_size, hidden_size):
        super().__init__(input_size, hidden_size)
        self.weight = torch.nn.Parameter(torch.randn(hidden_size, input_size))

    def state_shapes(self):
        return {"last": (3, self.input_size), "count": ()}

    def step(self, x, drive, state, return_energy):
        last = torch.cat([state["last"][:, 1:], x[:, None]], 1)
        count = state["count"] + 1
        mean = last.sum(1) / count.clamp(max=3)[:, None]
        return torch.tanh(mean @ self.weight.T), {"last": last, "count": count}, None
