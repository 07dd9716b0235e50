"""The contract of all layers, and what they share."""

import abc
import functools
import inspect
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import torch

from rllib_stpn import checks
from rllib_stpn.errors import UsageError
from rllib_stpn.kernels.recomputed import run_in_chunks
from rllib_stpn.kernels.states import overwriting_states

State = dict[str, torch.Tensor]


class CheckedState(dict):
    """A state of a call whose arguments its caller has checked, which takes as long as a small layer's step."""


class NoEnergyError(UsageError):
    """The energy was asked of a layer that leaves it out."""


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
      (:func:`~rllib_stpn.kernels.synaptic_energy.synaptic_energy`), without gradient.
    - T steps at once equal T single steps with the state handed over.
    - Layers can be pickled and deep-copied; parameter names and shapes are public.

    A new layer defines ``state_shapes`` and ``step`` (docs/your_layer.md). What depends on the inputs alone can be
    computed for all steps at once, in ``drive``; a layer with something faster than a loop over steps defines ``run``
    instead. The constructor takes ``input_size`` and ``hidden_size``, then options by name, which the class docstring
    may describe under ``Args``. ``name`` is what metrics and errors call the layer, the class's name by default.
    :func:`~rllib_stpn.layers.check_layer` tells whether a layer keeps to all this.

    Args:
        input_size: Features per step.
        hidden_size: Units; also ``output_size``, unless a subclass has another one.

    Raises:
        UsageError: A size that is not a positive integer; on calls, inputs, state or mask that do not fit.
    """

    name: str

    graph_tensors: ClassVar[int] = 4
    """Copies of the state that autograd keeps for one ``step``, measured; of no use to a layer with its own ``run``."""

    measured_by: Callable[..., tuple[torch.Tensor, State]] | None = None
    """Runs calls in place of ``run`` while :func:`rllib_stpn.energy.spent.energies_of` measures them."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "name" not in vars(cls):
            cls.name = cls.__name__

    def __init__(self, input_size: int, hidden_size: int):
        super().__init__()
        checks.integer(f"{self.name}: input_size", input_size, at_least=1)
        checks.integer(f"{self.name}: hidden_size", hidden_size, at_least=1)
        self.input_size = input_size
        self.hidden_size = hidden_size

    @functools.cached_property  # unlike a plain one, a constructor can set it
    def output_size(self) -> int:
        """Features of the outputs."""
        return self.hidden_size

    @abc.abstractmethod
    def state_shapes(self) -> dict[str, tuple[int, ...]]:
        """Shapes of the state's tensors, without the batch axis."""
        raise NotImplementedError

    def drive(self, inputs: torch.Tensor) -> torch.Tensor:
        """What depends on the inputs alone, for all steps at once: ``[B, T, I]`` to ``[B, T, ...]``."""
        return inputs

    def step(
        self, x: torch.Tensor, drive: torch.Tensor, state: State, return_energy: bool
    ) -> tuple[torch.Tensor, State, torch.Tensor | None]:
        """One step: input ``[B, I]``, its drive and the state to output ``[B, H]``, next state, energy ``[B, units]``.

        The energy may be None unless asked for; a layer that always returns None leaves it out.
        """
        raise NotImplementedError

    def run(
        self, inputs: torch.Tensor, state: State | None, is_first: torch.Tensor | None, return_energy: bool
    ) -> tuple[torch.Tensor, State, torch.Tensor | None]:
        """The sequence, for checked arguments; energy may be None unless asked for, and where it is left out."""
        return self.run_steps(inputs, state, is_first, return_energy)

    def run_steps(
        self, inputs: torch.Tensor, state: State | None, is_first: torch.Tensor | None, return_energy: bool
    ) -> tuple[torch.Tensor, State, torch.Tensor | None]:
        """The sequence in plain torch: a loop over ``step``, in chunks of time where its graph would be large."""
        if state is None:
            state = self.initial_state(inputs.shape[0])
        keys = list(state)
        names = state.keys()

        def loop(is_first, measure, inputs, drive, *leaves):
            state = dict(zip(keys, leaves, strict=True))
            starts = [False] * inputs.shape[1] if is_first is None else is_first.any(0).tolist()
            outputs: list[torch.Tensor] = []
            energies: list = []
            # Not inputs[:, t], whose backward would write a gradient of the whole sequence at every step.
            for t, (x, driven) in enumerate(zip(inputs.unbind(1), drive.unbind(1), strict=True)):
                if starts[t]:
                    state = reset(state, is_first[:, t])
                output, state, energy = self.step(x, driven, state, measure)
                if not isinstance(state, dict) or state.keys() != names:
                    raise self._wrong_state(state)
                outputs.append(output)
                energies.append(energy)
            energy = torch.stack(energies, 1) if measure and energies[0] is not None else None
            return torch.stack(outputs, 1), energy, *(state[key] for key in keys)

        output, energy, leaves = run_in_chunks(
            loop,
            (inputs, self.drive(inputs)),
            is_first,
            return_energy,
            tuple(state.values()),
            self,
            self.graph_tensors,
        )
        return output, dict(zip(keys, leaves, strict=True)), energy

    def _wrong_state(self, state: Any) -> UsageError:
        given = f"a dict of {sorted(state)}" if isinstance(state, dict) else type(state).__name__
        return UsageError(
            f"{self.name}: step: got {given} as the next state, allowed is a dict of {sorted(self.state_shapes())}, as "
            "state_shapes has them"
        )

    def initial_state(self, batch_size: int) -> State:
        """The zero state ``[batch_size, ...]`` on the device of the parameters."""
        like = next(self.parameters(), torch.empty(0))
        return {key: like.new_zeros(batch_size, *shape) for key, shape in self.state_shapes().items()}

    def forward(
        self,
        inputs: torch.Tensor,
        state: State | None = None,
        is_first: torch.Tensor | None = None,
        return_energy: bool = False,
    ):
        """Runs the sequence; the class docstring is the contract."""
        if type(state) is not CheckedState:
            self._check(inputs, state, is_first)
        if torch.compiler.is_compiling():
            return self._traced(inputs, state, is_first, return_energy)
        if self.measured_by is not None and not return_energy:
            return self.measured_by(inputs, state, is_first)
        if return_energy:
            return self.run_measured(inputs, state, is_first)
        outputs, state, _ = self.run(inputs, state, is_first, False)
        return outputs, state

    def _traced(self, inputs: torch.Tensor, state: State | None, is_first: torch.Tensor | None, return_energy: bool):
        """The sequence step by step for torch.export and torch.compile: no branch looks at what a tensor holds."""
        after = self.initial_state(inputs.shape[0]) if state is None else state
        outputs: list[torch.Tensor] = []
        energies: list[torch.Tensor] = []
        for step, x in enumerate(inputs.split(1, 1)):
            if is_first is not None:
                after = reset(after, is_first[:, step])
            if return_energy:
                output, after, energy = self.run_measured(x, after, None)
                energies.append(energy)
            else:
                output, after, _ = self.run(x, after, None, False)
            outputs.append(output)
        return torch.cat(outputs, 1), after, *([torch.cat(energies, 1)] if return_energy else [])

    def run_measured(
        self, inputs: torch.Tensor, state: State | None, is_first: torch.Tensor | None
    ) -> tuple[torch.Tensor, State, torch.Tensor]:
        """``run`` with the energy.

        Raises:
            NoEnergyError: The layer leaves it out.
        """
        outputs, after, energy = self.run(inputs, state, is_first, True)
        if energy is None:
            raise NoEnergyError(
                f"{self.name}: got a layer that leaves its energy out, allowed is one whose step (or run) returns it "
                "as third value (docs/energy.md)"
            )
        return outputs, after, energy.detach()

    def energy_without(
        self, inputs: torch.Tensor, state: State | None, columns: Sequence[int] | None = None
    ) -> torch.Tensor:
        """Energy ``[B, T, units]`` of a step, T = 1, without what the synapses of some inputs spend.

        Computed by setting these inputs to zero. Override it where a step's efficacies depend on that step's inputs.

        Args:
            inputs: ``[B, 1, I]``.
            state: The state before the step.
            columns: Indices of the inputs to leave out; None for all, so that only recurrent synapses count.
        """
        silent = inputs.clone()
        silent[..., slice(None) if columns is None else list(columns)] = 0
        with torch.no_grad(), overwriting_states(False):
            return self.run_measured(silent, state, None)[2]

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
            value = getattr(self, key, parameter.default)
            if value is parameter.default or isinstance(value, (torch.Tensor, torch.nn.Module)):
                continue
            if parameter.default is parameter.empty or value != parameter.default:
                shown.append(f"{key}={value!r}")
        return ", ".join(shown)


def reset(state: State, where: torch.Tensor) -> State:
    """The state with the samples in ``where`` ``[B]`` set to zero, even if they held NaN."""
    return {key: torch.where(where.view(-1, *[1] * (leaf.dim() - 1)), 0.0, leaf) for key, leaf in state.items()}


def uniform(bound: float, *shape: int) -> torch.nn.Parameter:
    """A parameter drawn from U(-bound, bound)."""
    return torch.nn.Parameter(torch.empty(*shape).uniform_(-bound, bound))


def linear(inputs: int, outputs: int) -> tuple[torch.nn.Parameter, torch.nn.Parameter]:
    """Weight ``[outputs, inputs]`` and bias ``[outputs]`` from U(±1/sqrt(inputs)), as in ``torch.nn.Linear``."""
    return uniform(inputs**-0.5, outputs, inputs), uniform(inputs**-0.5, outputs)
