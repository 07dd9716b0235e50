"""The recurrent layers that torch has, with the interface of the layers here."""

import abc
from typing import ClassVar

import torch

from rllib_stpn import checks
from rllib_stpn.kernels.synaptic_energy import synaptic_energy
from rllib_stpn.layers.layer import Layer, reset, uniform

BIASES = ("double", "single")

# Samples up to which torch's single-step functions are used: they take two thirds of the time of a sequence of one
# step, but more from a few hundred samples on (measured).
_LARGEST_FOR_CELL = 128
# Steps with resets up to which a sequence goes by stretches; by pieces it takes as long as ten of them, however many
# resets there are (measured).
_MOST_STRETCHES = 10


class TorchRecurrent(Layer):
    """Base of RNN, LSTM and GRU, which give the number of gates, the names of the state and torch's functions.

    Parameters: ``weight_ih`` ``[gates·H, I]``, ``weight_hh`` ``[gates·H, H]``, ``bias_ih`` ``[gates·H]`` and, with two
    bias vectors, ``bias_hh`` ``[gates·H]``, all drawn from U(±1/sqrt(H)) as torch does. Energy: one value per gate row.

    Args:
        input_size: Features per step.
        hidden_size: Units.
        bias: "double" has torch's two bias vectors, "single" only one, as some published baselines.

    Raises:
        UsageError: An option outside what is listed here.
    """

    gates: ClassVar[int]
    keys: ClassVar[tuple[str, ...]] = ("h",)

    def __init__(self, input_size: int, hidden_size: int, *, bias: str = "double"):
        super().__init__(input_size, hidden_size)
        self.bias = checks.choice(f"{self.name}: bias", bias, BIASES)
        rows, k = self.gates * hidden_size, hidden_size**-0.5
        self.weight_ih = uniform(k, rows, input_size)
        self.weight_hh = uniform(k, rows, hidden_size)
        self.bias_ih = uniform(k, rows)
        if bias == "double":
            self.bias_hh = uniform(k, rows)

    def state_shapes(self):
        """Each ``[H]``."""
        return dict.fromkeys(self.keys, (self.hidden_size,))

    @abc.abstractmethod
    def sequence(
        self, inputs: torch.Tensor, start: tuple[torch.Tensor, ...], parameters: list[torch.Tensor]
    ) -> tuple[torch.Tensor, ...]:
        """Torch's function without resets: start states ``[1, B, H]`` to outputs ``[B, T, H]``, then end states."""
        raise NotImplementedError

    @abc.abstractmethod
    def cell(
        self, x: torch.Tensor, start: tuple[torch.Tensor, ...], parameters: list[torch.Tensor]
    ) -> tuple[torch.Tensor, ...]:
        """Torch's function for a single step: input ``[B, I]`` and states ``[B, H]`` to the next states."""
        raise NotImplementedError

    def run(self, inputs, state, is_first, return_energy):
        """The sequence, by as few calls of torch's function as the resets allow."""
        if state is None:
            state = self.initial_state(inputs.shape[0])
        bias_hh = self.bias_hh if self.bias == "double" else torch.zeros_like(self.bias_ih)
        parameters = [self.weight_ih, self.weight_hh, self.bias_ih, bias_hh]
        starts = [] if is_first is None else is_first.any(0).nonzero().flatten().tolist()
        given = tuple(state[key] for key in self.keys)
        if 0 in starts:
            given = tuple(reset(dict(zip(self.keys, given, strict=True)), is_first[:, 0]).values())
        resets = [step for step in starts if step > 0]
        of_any_batch = torch.compiler.is_compiling()  # A program that was traced takes other batches, too.
        if inputs.shape[1] == 1 and (of_any_batch or len(inputs) <= _LARGEST_FOR_CELL):
            ends = self.cell(inputs[:, 0], given, parameters)
            outputs = ends[0][:, None].clone()  # Who changes the outputs in place does not change the state.
        elif len(resets) <= _MOST_STRETCHES:
            outputs, ends = self._by_stretches(inputs, given, is_first, resets, parameters)
        else:
            outputs, ends = self._by_pieces(inputs, given, is_first, parameters)
        energy = None
        if return_energy:
            h = torch.cat([given[0][:, None], outputs[:, :-1]], 1)  # [B, T, H], each step's h before the step
            if resets:
                h = torch.where(is_first[..., None], 0.0, h)
            energy = synaptic_energy(self.weight_ih, inputs, self.weight_hh, h)
        return outputs, dict(zip(self.keys, ends, strict=True)), energy

    def _by_stretches(self, inputs, state, is_first, resets, parameters):
        """One call for each stretch of time in which no sample resets."""
        outputs = []
        for begin, end in zip([0, *resets], [*resets, inputs.shape[1]], strict=True):
            if begin:
                state = tuple(reset(dict(zip(self.keys, state, strict=True)), is_first[:, begin]).values())
            start = tuple(leaf[None].contiguous() for leaf in state)
            output, *ends = self.sequence(inputs[:, begin:end], start, parameters)
            outputs.append(output)
            state = tuple(leaf[0] for leaf in ends)
        return (torch.cat(outputs, 1) if resets else outputs[0]), state

    def _by_pieces(self, inputs, state, is_first, parameters):
        """Each sample is cut where it resets, and each piece into powers of two: one call takes all parts of one size.

        A piece of 13 steps goes through the calls of 8, 4 and 1. Nothing is padded, and there are at most
        ``log2(T) + 1`` calls, whatever the resets.
        """
        batch, steps = is_first.shape
        begins = is_first.clone()
        begins[:, 0] = True
        at = begins.flatten().nonzero().flatten()  # [pieces] the first step of each, among all B * T
        left = torch.cat([at[1:], at.new_tensor([batch * steps])]) - at
        sample, inside = at // steps, at % steps > 0
        last = (at + left) % steps == 0
        state = tuple(torch.where(inside[:, None], 0.0, leaf[sample]) for leaf in state)
        flat = inputs.flatten(0, 1)
        outputs, places = [], []
        for exponent in reversed(range(int(left.max()).bit_length())):
            size = 2**exponent
            pieces = (left & size).nonzero().flatten()
            if not len(pieces):
                continue
            place = (at[pieces, None] + torch.arange(size, device=at.device)).flatten()
            start = tuple(leaf[pieces][None] for leaf in state)
            output, *ends = self.sequence(flat[place].unflatten(0, (-1, size)), start, parameters)
            state = tuple(leaf.index_copy(0, pieces, end[0]) for leaf, end in zip(state, ends, strict=True))
            outputs.append(output.flatten(0, 1))
            places.append(place)
            at[pieces] += size
        order = torch.cat(places).argsort()
        return torch.cat(outputs)[order].unflatten(0, (batch, steps)), tuple(leaf[last] for leaf in state)

    def energy_without(self, inputs, state, columns=None):
        """As in ``Layer``, without the step itself: its energy depends on inputs and h alone."""
        if state is None:
            state = self.initial_state(inputs.shape[0])
        silent = inputs.clone()
        silent[..., slice(None) if columns is None else list(columns)] = 0
        return synaptic_energy(self.weight_ih, silent, self.weight_hh, state["h"][:, None])
