"""Whether a layer keeps the contract of all layers: for layers of your own."""

import contextlib
import copy
import inspect
import itertools
import pickle
from collections.abc import Iterator
from typing import Any

import torch

from rllib_stpn.errors import UsageError, in_words_with_place
from rllib_stpn.layers.layer import Layer, NoEnergyError, State

_BATCH, _STEPS, _SPLIT = 3, 7, 3
_TOLERANCE = 1e-4
"""Of the largest number in what is compared. Sums in another order differ by a hundredth of that."""


class LayerError(UsageError):
    """A layer breaks the contract: the message says where, what does not hold, and what the contract wants."""


def check_layer(layer: Layer, *, exact_gradients: bool = True) -> None:
    """Checks that a layer keeps the contract of :class:`~rllib_stpn.layers.Layer`, as training relies on it.

    ::

        check_layer(MyLayer(5, 4))

    Runs it on random inputs of 3 samples and 7 steps, in evaluation mode, so that dropout is off. Compares shapes and
    types; the same call again; each sample alone (in training mode, too, where nothing is drawn); single steps, and a
    sequence in two parts, with the whole; resets with sequences that begin there; gradients with differences of the
    outputs; energies; copies, pickles and the state dict with the layer. Parameters, mode and random numbers stay as
    they were.

    Args:
        layer: The layer. A small one takes a tenth of a second.
        exact_gradients: False where gradients are not those of the outputs, as the surrogates of spikes are: leaves the
            comparison with differences out.

    Raises:
        LayerError: What does not hold first, ``"NAME: WHERE: what does not hold; what the contract wants"``.
    """
    if not isinstance(layer, Layer):
        raise LayerError(f"check_layer: got {type(layer).__name__}; the contract wants a rllib_stpn.layers.Layer")
    training = layer.training
    with torch.random.fork_rng(devices=[]):
        try:
            layer.eval()
            _Check(layer).run(exact_gradients)
        finally:
            layer.train(training)


class _Check:
    """The parts of the contract, in the order in which they build on each other."""

    def __init__(self, layer: Layer) -> None:
        self._layer = layer
        self._name = layer.name
        self._sizes()
        self._inputs = self._random(_BATCH, _STEPS, layer.input_size, seed=0)
        self._reached: State | None = None

    def run(self, exact_gradients: bool) -> None:
        self._initial_state()
        self._outputs()
        self._given_tensors()
        self._memory_outside()
        self._samples()
        self._in_training()
        self._single_steps()
        self._two_parts()
        self._resets()
        self._gradients(exact_gradients)
        self._energy()
        self._copies()

    # --- what goes in and comes out -----------------------------------------------------------------------------

    def _sizes(self) -> None:
        layer = self._layer
        for key in ("input_size", "hidden_size", "output_size"):
            value = getattr(layer, key, None)
            if not isinstance(value, int) or value < 1:
                self._fail(key, f"it is {value!r}", "a whole number of at least 1")
        with self._doing("state_shapes"):
            shapes = layer.state_shapes()
        right = isinstance(shapes, dict) and all(
            isinstance(key, str) and isinstance(shape, tuple) and all(isinstance(size, int) for size in shape)
            for key, shape in shapes.items()
        )
        if not right:
            self._fail("state_shapes", f"it returns {shapes!r}", "a dict from names to tuples of whole numbers")

    def _initial_state(self) -> None:
        with self._doing("initial_state"):
            state = self._layer.initial_state(_BATCH)
        self._check_state("initial_state", state, _BATCH)
        for key, leaf in state.items():
            if leaf.any():
                self._fail("initial_state", f"{key!r} is not zero", "a state of zeros, which a reset goes back to")

    def _outputs(self) -> None:
        layer, inputs = self._layer, self._inputs.clone()
        with self._doing("a call without a state"):
            result: Any = layer(inputs)
        if not isinstance(result, tuple) or len(result) != 2:
            self._fail("outputs", f"a call returns {type(result).__name__}", "(outputs, state)")
        outputs, state = result
        if not isinstance(outputs, torch.Tensor):
            self._fail("outputs", f"they are a {type(outputs).__name__}", "a tensor")
        wanted = (_BATCH, _STEPS, layer.output_size)
        if tuple(outputs.shape) != wanted:
            self._fail(
                "outputs",
                f"their shape is {tuple(outputs.shape)}",
                f"[B, T, output_size], here {wanted}; a layer whose outputs are not its units sets output_size",
            )
        if outputs.dtype != inputs.dtype:
            self._fail("outputs", f"their type is {outputs.dtype}", f"that of the inputs, {inputs.dtype}")
        self._must_be_finite("outputs", outputs)
        self._check_state("state", state, _BATCH)

    def _check_state(self, where: str, state: Any, batch: int) -> None:
        layer = self._layer
        wanted = {key: (batch, *shape) for key, shape in layer.state_shapes().items()}
        if not isinstance(state, dict):
            self._fail(where, f"it is a {type(state).__name__}", "a dict of tensors, {} for a layer without memory")
        if set(state) != set(wanted):
            self._fail(where, f"it has {sorted(state)}", f"the names of state_shapes, {sorted(wanted)}")
        for key, shape in wanted.items():
            leaf = state[key]
            if not isinstance(leaf, torch.Tensor) or tuple(leaf.shape) != shape:
                given = tuple(leaf.shape) if isinstance(leaf, torch.Tensor) else type(leaf).__name__
                self._fail(where, f"{key!r} is {given}", f"[B, ...] as in state_shapes, here {shape}")
            if leaf.dtype != self._inputs.dtype:
                self._fail(where, f"the type of {key!r} is {leaf.dtype}", f"that of the inputs, {self._inputs.dtype}")
            self._must_be_finite(where, leaf)

    def _must_be_finite(self, where: str, tensor: torch.Tensor) -> None:
        if not tensor.isfinite().all():
            self._fail(where, "there are NaNs or infinities for inputs of normal size", "finite numbers")

    # --- all memory is in the state -----------------------------------------------------------------------------

    def _given_tensors(self) -> None:
        for gradients, is_first in itertools.product((True, False), (None, self._mask({0: _SPLIT, 1: 0}))):
            inputs, state, mask = self._inputs.clone(), self._state(), None if is_first is None else is_first.clone()
            kept = {key: leaf.clone() for key, leaf in state.items()}
            with torch.set_grad_enabled(gradients), self._doing("a call"):
                self._layer(inputs, state, mask)
            for key, leaf in state.items():
                if not torch.equal(leaf, kept[key]):
                    self._fail("state", f"a call changes the given {key!r} in place", "a new tensor for the next state")
            if not torch.equal(inputs, self._inputs):
                self._fail("inputs", "a call changes the given tensor in place", "inputs kept as they are")
            if mask is not None and is_first is not None and not torch.equal(mask, is_first):
                self._fail("is_first", "a call changes the given mask in place", "a mask kept as it is")

    def _memory_outside(self) -> None:
        first = self._call(self._inputs, self._state())
        wants = "the same for the same inputs and state: all memory in the state, and no chance in evaluation mode"
        again = self._call(self._inputs, self._state())
        self._compare("state", again, first, "the same call again gives other {}", wants)
        self._call(self._random(2, 4, self._layer.input_size, seed=1))
        again = self._call(self._inputs, self._state())
        self._compare("state", again, first, "after a call with other inputs the same call gives other {}", wants)
        zero = self._call(self._inputs, self._layer.initial_state(_BATCH))
        none = self._call(self._inputs)
        self._compare("state", none, zero, "without a state it computes other {} than with initial_state", "the same")

    def _samples(self, where: str = "batch") -> None:
        state = self._state()
        outputs, after = self._call(self._inputs, state)
        for row in range(_BATCH):
            alone = self._call(self._inputs[row : row + 1], _rows(state, row))
            self._compare(
                where,
                alone,
                (outputs[row : row + 1], _rows(after, row)),
                "a sample alone has other {} than among others",
                "that samples do not see each other",
            )

    def _in_training(self) -> None:
        """Samples once more, where nothing is drawn at random: a batch normalisation mixes them in training alone."""
        with self._doing("copy.deepcopy"):
            copied = _Check(copy.deepcopy(self._layer).train())
        once, again = copied._call(self._inputs)[0], copied._call(self._inputs)[0]
        if torch.equal(once, again):
            copied._samples("batch, in training mode")

    # --- time ---------------------------------------------------------------------------------------------------

    def _single_steps(self) -> None:
        state = self._state()
        whole = self._call(self._inputs, state)
        outputs = []
        for step in range(_STEPS):
            output, state = self._call(self._inputs[:, step : step + 1], state)
            outputs.append(output)
        self._compare(
            "steps",
            (torch.cat(outputs, 1), state),
            whole,
            "single steps, the state handed over, give other {} than the sequence",
            "the same",
        )

    def _two_parts(self) -> None:
        whole = self._call(self._inputs, self._state())
        first, middle = self._call(self._inputs[:, :_SPLIT], self._state())
        second, last = self._call(self._inputs[:, _SPLIT:], middle)
        self._compare(
            "steps", (torch.cat([first, second], 1), last), whole, "a sequence in two parts gives other {}", "the same"
        )

    def _resets(self) -> None:
        never = self._call(self._inputs, self._state(), self._mask({}))
        self._compare(
            "is_first", never, self._call(self._inputs, self._state()), "all False, it changes the {}", "no change"
        )
        for begin in (0, _SPLIT, _STEPS - 1):
            state = self._state()
            outputs, after = self._call(self._inputs, state, self._mask({1: begin}))
            fresh = self._call(self._inputs[1:2, begin:])
            self._compare(
                "is_first",
                (outputs[1:2, begin:], _rows(after, 1)),
                fresh,
                f"with a reset at step {begin} the {{}} are not those of a sequence that begins there",
                "a state of zeros before that step",
            )
            for row, end in ((0, _STEPS), (1, begin), (2, _STEPS)):
                before = self._call(self._inputs, state)[0]
                self._compare(
                    "is_first",
                    (outputs[row : row + 1, :end], {}),
                    (before[row : row + 1, :end], {}),
                    f"a reset of sample 1 at step {begin} changes {{}} before it or of other samples",
                    "that nothing else changes",
                )
        broken = {key: torch.full_like(leaf, torch.nan) for key, leaf in self._state().items()}
        healed = self._call(self._inputs, broken, self._mask(dict.fromkeys(range(_BATCH), 0)))
        self._compare(
            "is_first",
            healed,
            self._call(self._inputs),
            "a reset of a state of NaN leaves other {} than a start from zeros",
            "zeros, whatever the state was (torch.where, not a product with 0)",
        )

    # --- gradients ----------------------------------------------------------------------------------------------

    def _gradients(self, exact: bool) -> None:
        layer, inputs = self._layer, self._inputs.clone().requires_grad_()
        with self._doing("a call with gradients"):
            outputs, state = layer(inputs)
        trained = [parameter for parameter in layer.parameters() if parameter.requires_grad]
        if not outputs.requires_grad:
            self._fail("gradients", "the outputs carry none", "outputs that inputs and parameters can be trained by")
        with self._doing("backward"):
            torch.autograd.grad(outputs.sum(), [inputs, *trained], allow_unused=True)
        if exact:
            self._compare_gradients()
        self._gradient_of_two_parts(trained)
        self._gradient_behind_a_reset()

    def _compare_gradients(self) -> None:
        """Each gradient along a random direction with the difference of the loss along it, in float64 if possible."""
        with self._doing("copy.deepcopy"):
            layer, step, tolerance = copy.deepcopy(self._layer).double(), 1e-6, 1e-3
        try:
            layer(self._inputs.double())
        except Exception:  # it makes tensors of float32 itself
            layer, step, tolerance = copy.deepcopy(self._layer), 3e-3, 3e-2
        dtype = torch.float64 if step < 1e-4 else torch.float32
        inputs = self._inputs.to(dtype).requires_grad_()
        with torch.no_grad():
            example = layer(inputs)
        weights = [
            self._random(*leaf.shape, seed=10 + index).to(dtype)
            for index, leaf in enumerate((example[0], *example[1].values()))
        ]

        def loss() -> torch.Tensor:
            outputs, state = layer(inputs)
            leaves = [outputs, *(state[key] for key in example[1])]
            return torch.stack([(leaf * weight).sum() for leaf, weight in zip(leaves, weights, strict=True)]).sum()

        named = {"the inputs": inputs} | {
            f"parameter {key!r}": parameter for key, parameter in layer.named_parameters() if parameter.requires_grad
        }
        gradients = torch.autograd.grad(loss(), list(named.values()), allow_unused=True)
        for (what, tensor), gradient in zip(named.items(), gradients, strict=True):
            direction = self._random(*tensor.shape, seed=3).to(dtype)
            found = 0.0 if gradient is None else float((gradient * direction).sum())
            losses = []
            with torch.no_grad():
                for sign in (1, -2):  # there, and back to the other side
                    tensor += sign * step * direction
                    losses.append(float(loss()))
                tensor += step * direction
            expected = (losses[0] - losses[1]) / (2 * step)
            rounding = max(map(abs, losses)) * (1e-13 if dtype == torch.float64 else 1e-6) / step
            if not abs(found - expected) <= tolerance * max(abs(found), abs(expected)) + rounding:
                self._fail(
                    "gradients",
                    f"that of {what} is {found:.4g} where the outputs change by {expected:.4g}",
                    "the gradient of what is computed, through the state too (no detach; exact_gradients=False for "
                    "surrogates)",
                )

    def _gradient_of_two_parts(self, trained: list[torch.nn.Parameter]) -> None:
        def gradients(outputs: torch.Tensor, inputs: torch.Tensor) -> list[torch.Tensor]:
            wanted = [inputs, *trained]
            weights = self._random(*outputs.shape, seed=4)  # a sum, or squares, would be constant once normalised
            found = torch.autograd.grad((outputs * weights).sum(), wanted, allow_unused=True)
            pairs = zip(found, wanted, strict=True)
            return [torch.zeros_like(tensor) if each is None else each for each, tensor in pairs]

        inputs = self._inputs.clone().requires_grad_()
        with self._doing("backward through a handed-over state"):
            whole = gradients(self._layer(inputs)[0][:, _SPLIT:], inputs)
            _, middle = self._layer(inputs[:, :_SPLIT])
            parts = gradients(self._layer(inputs[:, _SPLIT:], middle)[0], inputs)
        rounding = 1e-6 * max(gradient.abs().max().item() for gradient in whole if gradient.numel())
        for found, expected in zip(parts, whole, strict=True):
            if _difference(found, expected, rounding) is not None:
                self._fail("gradients", "a handed-over state does not pass them on", "those of one call")

    def _gradient_behind_a_reset(self) -> None:
        inputs = self._inputs.clone().requires_grad_()
        with self._doing("backward through a reset"):
            outputs, _ = self._layer(inputs, None, self._mask(dict.fromkeys(range(_BATCH), _SPLIT)))
            (gradient,) = torch.autograd.grad(outputs[:, _SPLIT:].exp().sum(), inputs, allow_unused=True)
        if gradient is not None and gradient[:, :_SPLIT].any():
            self._fail("is_first", "gradients pass a reset", "that nothing behind a reset depends on what was before")

    # --- energy, copies -----------------------------------------------------------------------------------------

    def _energy(self) -> None:
        try:
            with self._doing("a call with return_energy"):
                *result, energy = self._layer(self._inputs, self._state(), return_energy=True)
        except NoEnergyError:
            return
        if tuple(energy.shape[:2]) != (_BATCH, _STEPS) or energy.dim() != 3:
            self._fail("energy", f"its shape is {tuple(energy.shape)}", "[B, T, units]")
        if not (energy >= 0).all():
            self._fail("energy", "there are negative numbers or NaNs", "what each unit's synapses spend, 0 or more")
        plain = self._call(self._inputs, self._state())
        self._compare("energy", tuple(result), plain, "return_energy changes the {}", "no change")
        state, energies = self._state(), []
        for step in range(_STEPS):
            with torch.no_grad(), self._doing("a call with return_energy"):
                _, state, spent = self._layer(self._inputs[:, step : step + 1], state, return_energy=True)
            energies.append(spent)
        if _difference(torch.cat(energies, 1), energy) is not None:
            self._fail(
                "energy", "single steps, the state handed over, spend other energy than the sequence", "the same"
            )

    def _copies(self) -> None:
        layer = self._layer
        layer(self._inputs)  # with gradients: what it keeps of them cannot be copied
        expected = self._call(self._inputs)

        def compare(other: Layer, how: str, wants: str) -> None:
            with self._doing(f"a call of {how}"), torch.no_grad():
                found = other(self._inputs)
            self._compare("copies", found, expected, f"{how} gives other {{}}", wants)

        with self._doing("copy.deepcopy"):
            copied = copy.deepcopy(layer)
        compare(copied, "a deep copy", "the same")
        own = {parameter.data_ptr() for parameter in layer.parameters()}
        if any(parameter.data_ptr() in own for parameter in copied.parameters() if parameter.numel()):
            self._fail("copies", "a deep copy shares parameters with the layer", "parameters of its own")
        with self._doing("pickle"):
            pickled = pickle.loads(pickle.dumps(layer))
        compare(pickled, "a pickle", "the same")
        with self._doing("state_dict"):
            restored = self._made_anew() or _with_other_parameters(copied)
            restored.load_state_dict(layer.state_dict())
        compare(
            restored.eval(),
            "another layer with its state_dict",
            "the same: all that is learned or drawn in parameters or buffers",
        )

    def _made_anew(self) -> Layer | None:
        """Another layer with the same options; None where the constructor does not keep them as attributes."""
        arguments: dict[str, Any] = {}
        for key in inspect.signature(type(self._layer)).parameters:
            if isinstance(getattr(self._layer, key, self._inputs), (torch.Tensor, torch.nn.Module)):
                return None
            arguments[key] = getattr(self._layer, key)
        try:
            made = type(self._layer)(**arguments)
        except Exception:  # the attributes are not what the constructor was given
            return None
        here = next(self._layer.parameters(), self._inputs)
        return made.to(device=here.device, dtype=here.dtype)

    # --- helpers ------------------------------------------------------------------------------------------------

    def _random(self, *shape: int, seed: int) -> torch.Tensor:
        like = next(self._layer.parameters(), torch.empty(0))
        drawn = torch.randn(*shape, generator=torch.Generator().manual_seed(seed))
        return drawn.to(device=like.device, dtype=like.dtype)

    def _state(self) -> State:
        """A state that the layer comes to; not any numbers: it may count, or hold probabilities."""
        if self._reached is None:
            self._reached = self._call(self._random(_BATCH, 4, self._layer.input_size, seed=2))[1]
        return {key: leaf.clone() for key, leaf in self._reached.items()}

    def _mask(self, at: dict[int, int]) -> torch.Tensor:
        """``[B, T]``, True at the step of each sample that is given."""
        mask = torch.zeros(_BATCH, _STEPS, dtype=torch.bool, device=self._inputs.device)
        for row, step in at.items():
            mask[row, step] = True
        return mask

    def _call(self, inputs: torch.Tensor, state: State | None = None, is_first: torch.Tensor | None = None) -> Any:
        given = state and {key: leaf.clone() for key, leaf in state.items()}
        with torch.no_grad(), self._doing("a call"):
            return self._layer(inputs.clone(), given, is_first)

    def _compare(self, where: str, found: Any, expected: Any, happens: str, wants: str) -> None:
        """Fails unless outputs and states are equal but for rounding; ``{}`` in ``happens`` is for which are not."""
        named = {"outputs": (found[0], expected[0])}
        named |= {f"state {key!r}": (leaf, expected[1][key]) for key, leaf in found[1].items()}
        for what, pair in named.items():
            shapes = [tuple(tensor.shape) for tensor in pair]
            if shapes[0] != shapes[1]:
                self._fail(where, f"{happens.format(what)} (of shape {shapes[0]}, not {shapes[1]})", wants)
            difference = _difference(*pair)
            if difference is not None:
                self._fail(where, f"{happens.format(what)} (by up to {difference:.2g})", wants)

    @contextlib.contextmanager
    def _doing(self, what: str) -> Iterator[None]:
        """Tells what a layer raises within."""
        try:
            yield
        except (LayerError, NoEnergyError):
            raise
        except Exception as error:
            told = str(error) if isinstance(error, UsageError) else in_words_with_place(error)
            raise LayerError(f"{self._name}: {what}: raised {told}; the contract wants it to work") from error

    def _fail(self, where: str, happens: str, wants: str) -> None:
        raise LayerError(f"{self._name}: {where}: {happens}; the contract wants {wants}")


def _difference(found: torch.Tensor, expected: torch.Tensor, rounding: float = 1e-7) -> float | None:
    """The largest difference, None where it is no more than rounding; NaN differs from everything."""
    if found.shape != expected.shape:
        return float("nan")
    if not expected.numel():
        return None
    difference = (found - expected).abs().max().item()
    bound = _TOLERANCE * expected.abs().max().item() + rounding
    return None if difference <= bound else difference


def _rows(state: State, row: int) -> State:
    return {key: leaf[row : row + 1] for key, leaf in state.items()}


def _with_other_parameters(layer: Layer) -> Layer:
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.add_(1.0)
    return layer
