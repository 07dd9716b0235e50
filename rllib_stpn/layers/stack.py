"""Options that every layer has: several layers in a row, a linear layer in front, normalised outputs."""

from typing import Any

import torch

from rllib_stpn import checks
from rllib_stpn.kernels.states import overwriting_states
from rllib_stpn.layers.layer import CheckedState, Layer, State


class Stack(Layer):
    """Layers of one kind, each reading the outputs of the one before, as one layer.

    Every layer beyond the first has the ``output_size`` of the one before as its ``input_size``. The state of a single
    layer keeps its names; those of several are prefixed by the layer's index, as in ``0.h``, ``1.h``. Energy: the
    layers' units one after another; projection and normalisation are not counted.

    >>> from rllib_stpn.layers.lstm import LSTM
    >>> layer = Stack(LSTM, 17, 47, num_layers=2, input_projection=32)
    >>> outputs, state = layer(torch.zeros(2, 9, 17))
    >>> outputs.shape, sorted(state)
    (torch.Size([2, 9, 47]), ['0.c', '0.h', '1.c', '1.h'])

    Parameters: those of the layers under ``layers.0``, ``layers.1``, ...; ``projection.weight``
    ``[input_projection, I]`` and ``projection.bias``; ``layer_norm.weight`` and ``layer_norm.bias`` ``[output_size]``;
    the last four as torch initialises them.

    Args:
        kind: The class of the layers.
        input_size: Features per step.
        hidden_size: Units of each layer.
        num_layers: Number of layers.
        input_projection: Features of a linear layer in front of the first layer, None for no such layer.
        layer_norm: Whether the outputs of the last layer go through a layer normalisation with gain and bias.
        options: Options of the kind.

    Raises:
        UsageError: An option outside what is listed here or by the kind.
    """

    energy_widths: tuple[int, ...] = ()
    """Units of each layer in the energy that was last measured, which a layer may count by its inputs."""

    def __init__(
        self,
        kind: type[Layer],
        input_size: int,
        hidden_size: int,
        *,
        num_layers: int = 1,
        input_projection: int | None = None,
        layer_norm: bool = False,
        **options: Any,
    ):
        self.name = kind.name
        super().__init__(input_size, hidden_size)
        checks.integer(f"{self.name}: num_layers", num_layers, at_least=1)
        checks.integer(f"{self.name}: input_projection", input_projection, at_least=1, or_none=True)
        checks.flag(f"{self.name}: layer_norm", layer_norm)
        self.num_layers = num_layers
        self.input_projection = input_projection
        self.projection = None if input_projection is None else torch.nn.Linear(input_size, input_projection)
        self.layers = torch.nn.ModuleList()
        self.output_size = input_projection or input_size  # of what was made so far
        for _ in range(num_layers):
            layer = kind(self.output_size, hidden_size, **options)
            self.layers.append(layer)
            self.output_size = layer.output_size
        self.layer_norm = torch.nn.LayerNorm(self.output_size) if layer_norm else None

    def _parts(self) -> list[tuple[Layer, dict[str, str]]]:
        """Each layer, with the names in its state -> their names in ours."""
        parts = []
        for index, layer in enumerate(self.layers):
            assert isinstance(layer, Layer)
            prefix = f"{index}." if self.num_layers > 1 else ""
            parts.append((layer, {key: prefix + key for key in layer.state_shapes()}))
        return parts

    def state_shapes(self):
        """The shapes of the layers' states."""
        return {ours: layer.state_shapes()[key] for layer, names in self._parts() for key, ours in names.items()}

    def run(self, inputs, state, is_first, return_energy):
        """The sequence through one layer after another."""
        outputs = inputs if self.projection is None else self.projection(inputs)
        after: State = {}
        energies: list = []
        for layer, names in self._parts():
            own = None if state is None else CheckedState({key: state[ours] for key, ours in names.items()})
            outputs, own, *energy = layer(outputs, own, is_first, return_energy)  # with its hooks
            after |= {ours: own[key] for key, ours in names.items()}
            energies += energy
        if self.layer_norm is not None:
            outputs = self.layer_norm(outputs)
        return outputs, after, self._joined(energies) if energies else None

    def energy_without(self, inputs, state, columns=None):
        """As in ``Layer``; ``columns`` are inputs of the first layer, and None leaves out those of every layer."""
        energies: list = []
        with torch.no_grad(), overwriting_states(False):
            outputs = inputs if self.projection is None else self.projection(inputs)
            for layer, names in self._parts():
                own = None if state is None else {key: state[ours] for key, ours in names.items()}
                less = layer.energy_without(outputs, own, columns) if columns is None or not energies else None
                outputs, _, energy = layer.run_measured(outputs, own, None)
                energies.append(energy if less is None else less)
        return self._joined(energies)

    def _joined(self, energies: list[torch.Tensor]) -> torch.Tensor:
        self.energy_widths = tuple(energy.shape[2] for energy in energies)
        return torch.cat(energies, 2)

    def extra_repr(self) -> str:
        """Sizes; the parts show themselves."""
        return f"input_size={self.input_size}, hidden_size={self.hidden_size}"
