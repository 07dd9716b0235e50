"""What every layer promises, and what they share."""

import inspect
import math
from typing import ClassVar

import torch

from rllib_stpn.errors import UsageError

State = dict[str, torch.Tensor]


class Layer(torch.nn.Module):
    """A layer over sequences whose memory goes in and comes out by name.

    ::

        layer = STPN(17, 55)
        outputs, state = layer(inputs)                               # from a zero state
        outputs, state = layer(inputs, state)                        # going on
        outputs, state = layer(inputs, state, is_first=mask)         # with resets inside the sequence
        outputs, state, energy = layer(inputs, state, return_energy=True)

    - ``inputs`` ``[B, T, I]``, ``outputs`` ``[B, T, output_size]``.
    - ``state`` is a dict of batch-first tensors, shaped as ``state_shapes`` says, ``{}`` for a layer without memory.
      None stands for zeros. The state given is never changed.
    - ``is_first`` ``[B, T]`` bool: the state is zero before that step, whatever it was, and no gradient passes.
    - ``energy`` ``[B, T, units]`` is the energy of each step's synaptic operations
      (:func:`rllib_stpn.kernels.energy`), without gradient.
    - T steps at once equal T single steps with the state handed over.
    - Layers can be pickled and deep-copied; parameter names and shapes are public.

    A new layer sets ``name``, defines ``state_shapes`` and ``step`` (or ``run``, where it knows something faster than
    a loop over steps), and names and describes its options in the constructor and in the class docstring's ``Args``.

    Args:
        input_size: Features per step.
        hidden_size: Units; also ``output_size``.

    Raises:
        UsageError: A size that is not a positive integer; on calls, inputs, state or mask that do not fit.
    """

    name: ClassVar[str]

    def __init__(self, input_size: int, hidden_size: int):
        super().__init__()
        for key, size in (("input_size", input_size), ("hidden_size", hidden_size)):
            if not isinstance(size, int) or isinstance(size, bool) or size < 1:
                raise UsageError(f"{self.name}: {key}: got {size!r}, allowed is an integer of at least 1")
        self.input_size = input_size
        self.hidden_size = hidden_size

    @property
    def output_size(self) -> int:
        """Features of the outputs."""
        return self.hidden_size

    def state_shapes(self) -> dict[str, tuple[int, ...]]:
        """Shapes of the state's tensors, without the batch axis."""
        raise NotImplementedError

    def step(self, x: torch.Tensor, state: State) -> tuple[torch.Tensor, State, torch.Tensor]:
        """One step: input ``[B, I]`` and state to output ``[B, H]``, next state and energy ``[B, units]``."""
        raise NotImplementedError

    def run(
        self, inputs: torch.Tensor, state: State | None, is_first: torch.Tensor | None, return_energy: bool
    ) -> tuple[torch.Tensor, State, torch.Tensor | None]:
        """The sequence, for checked arguments; energy may be None unless asked for."""
        if state is None:
            state = self.initial_state(inputs.shape[0])
        outputs, energies = [], []
        for t in range(inputs.shape[1]):
            if is_first is not None:
                state = reset(state, is_first[:, t])
            output, state, energy = self.step(inputs[:, t], state)
            outputs.append(output)
            energies.append(energy)
        return torch.stack(outputs, 1), state, torch.stack(energies, 1) if return_energy else None

    def initial_state(self, batch_size: int) -> State:
        """The zero state ``[batch_size, ...]`` on the device of the parameters."""
        like = next(self.parameters())
        return {key: like.new_zeros(batch_size, *shape) for key, shape in self.state_shapes().items()}

    def forward(
        self,
        inputs: torch.Tensor,
        state: State | None = None,
        is_first: torch.Tensor | None = None,
        return_energy: bool = False,
    ):
        """Runs the sequence; the class docstring is the contract."""
        self._check(inputs, state, is_first)
        outputs, state, energy = self.run(inputs, state, is_first, return_energy)
        return (outputs, state, energy) if return_energy else (outputs, state)

    def _check(self, inputs, state, is_first):
        given = tuple(inputs.shape)
        if len(given) != 3 or given[1] == 0 or given[2] != self.input_size:
            raise UsageError(
                f"{self.name}: inputs: got shape {given}, allowed is [B, T, {self.input_size}] with T at least 1"
            )
        if is_first is not None and (tuple(is_first.shape) != given[:2] or is_first.dtype != torch.bool):
            raise UsageError(
                f"{self.name}: is_first: got {is_first.dtype} {tuple(is_first.shape)}, "
                f"allowed is torch.bool {given[:2]}"
            )
        if state is None:
            return
        shapes = {key: (given[0], *shape) for key, shape in self.state_shapes().items()}
        found = {key: tuple(leaf.shape) for key, leaf in state.items()} if isinstance(state, dict) else state
        if found != shapes:
            what = f"shapes {found}" if isinstance(found, dict) else type(state).__name__
            raise UsageError(f"{self.name}: state: got {what}, allowed is a dict of shapes {shapes}")

    def extra_repr(self) -> str:
        """Sizes, and the options that differ from their defaults."""
        shown = []
        for key, parameter in inspect.signature(type(self)).parameters.items():
            value = getattr(self, key)
            if parameter.default is parameter.empty or value != parameter.default:
                shown.append(f"{key}={value!r}")
        return ", ".join(shown)


def reset(state: State, where: torch.Tensor) -> State:
    """The state with the samples in ``where`` ``[B]`` set to zero, even if they held NaN."""
    return {key: torch.where(where.view(-1, *[1] * (leaf.dim() - 1)), 0.0, leaf) for key, leaf in state.items()}


def uniform(bound: float, *shape: int) -> torch.nn.Parameter:
    """A parameter drawn from U(-bound, bound)."""
    return torch.nn.Parameter(torch.empty(*shape).uniform_(-bound, bound))


def check_flag(where: str, value: object) -> None:
    """Refuses what is not True or False, such as the text "false"."""
    if not isinstance(value, bool):
        raise UsageError(f"{where}: got {value!r}, allowed are True, False")


def check_number(where: str, value: object, above: float) -> None:
    """Refuses what is not a finite number greater than ``above``."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not above < value < math.inf:  # type: ignore[operator]
        raise UsageError(f"{where}: got {value!r}, allowed is a number greater than {above:g}")
