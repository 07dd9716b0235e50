"""``check_layer``: what it finds in layers with one fault each, and what it lets pass."""

import re

import pytest
import torch

from rllib_stpn.errors import UsageError
from rllib_stpn.layers import Layer, LayerError, check_layer, make_layer
from tests.layers.test_contract import CASES


class Right(Layer):
    """A leaky recurrent layer, without a fault; every fault below is a subclass."""

    def __init__(self, input_size, hidden_size, *, keep=0.8):
        super().__init__(input_size, hidden_size)
        self.keep = keep
        self.weight = torch.nn.Parameter(0.5 * torch.randn(hidden_size, input_size))
        self.recurrent = torch.nn.Parameter(0.5 * torch.randn(hidden_size, hidden_size))

    def state_shapes(self):
        return {"h": (self.hidden_size,), "trace": (self.hidden_size,)}

    def step(self, x, drive, state, return_energy):
        trace = self.keep * state["trace"] + state["h"]
        h = torch.tanh(x @ self.weight.T + state["h"] @ self.recurrent.T + 0.5 * trace)
        return h, {"h": h, "trace": trace}, None


class IgnoresResets(Right):
    def run(self, inputs, state, is_first, return_energy):
        return self.run_steps(inputs, state, None, return_energy)


class ResetsPartOfTheState(Right):
    def run(self, inputs, state, is_first, return_energy):
        state = state or self.initial_state(len(inputs))
        outputs = []
        for t in range(inputs.shape[1]):
            if is_first is not None:
                state = {**state, "h": torch.where(is_first[:, t, None], 0.0, state["h"])}
            output, state, _ = self.step(inputs[:, t], inputs[:, t], state, False)
            outputs.append(output)
        return torch.stack(outputs, 1), state, None


class ResetsByAProduct(Right):
    def run(self, inputs, state, is_first, return_energy):
        state = state or self.initial_state(len(inputs))
        outputs = []
        for t in range(inputs.shape[1]):
            if is_first is not None:
                state = {key: leaf * ~is_first[:, t, None] for key, leaf in state.items()}
            output, state, _ = self.step(inputs[:, t], inputs[:, t], state, False)
            outputs.append(output)
        return torch.stack(outputs, 1), state, None


class MixesSamples(Right):
    def step(self, x, drive, state, return_energy):
        return super().step(x - x.mean(0), drive, state, return_energy)


class LooksAhead(Right):
    def drive(self, inputs):
        return inputs.mean(1, keepdim=True).expand_as(inputs)

    def step(self, x, drive, state, return_energy):
        return super().step(x + drive, drive, state, return_energy)


class KeepsNoState(Right):
    def step(self, x, drive, state, return_energy):
        h, after, _ = super().step(x, drive, state, return_energy)
        return h, {"h": after["h"]}, None


class KeepsAnotherState(Right):
    def run(self, inputs, state, is_first, return_energy):
        outputs, state, _ = self.run_steps(inputs, state, is_first, return_energy)
        return outputs, {**state, "steps": torch.zeros(len(inputs), 1)}, None


class StateOfAnotherShape(Right):
    def run(self, inputs, state, is_first, return_energy):
        outputs, state, _ = self.run_steps(inputs, state, is_first, return_energy)
        return outputs, {**state, "trace": state["trace"][0]}, None


class StateOfWholeNumbers(Right):
    def step(self, x, drive, state, return_energy):
        h, after, _ = super().step(x, drive, state, return_energy)
        return h, {**after, "trace": after["trace"].long()}, None


class WrongOutputSize(Right):
    def step(self, x, drive, state, return_energy):
        h, after, _ = super().step(x, drive, state, return_energy)
        return torch.cat([h, h], 1), after, None


class OutputsOfAnotherType(Right):
    def step(self, x, drive, state, return_energy):
        h, after, _ = super().step(x, drive, state, return_energy)
        return h.double(), after, None


class CannotBePickled(Right):
    def __init__(self, input_size, hidden_size):
        super().__init__(input_size, hidden_size)
        self.activation = lambda x: torch.tanh(x)


class CutsTheGradientThroughTime(Right):
    def step(self, x, drive, state, return_energy):
        return super().step(x, drive, {key: leaf.detach() for key, leaf in state.items()}, return_energy)


class CutsOnePathOfTheGradient(Right):
    def step(self, x, drive, state, return_energy):
        return super().step(x, drive, {**state, "trace": state["trace"].detach()}, return_energy)


class CutsTheGradientOfAParameter(Right):
    def step(self, x, drive, state, return_energy):
        h, after, _ = super().step(x, drive, state, return_energy)
        return h, {**after, "trace": after["trace"] + 0.1 * (x @ self.weight.T).detach()}, None


class CutsTheGradientOfTheGivenState(Right):
    def run(self, inputs, state, is_first, return_energy):
        state = state and {key: leaf.detach() for key, leaf in state.items()}
        return self.run_steps(inputs, state, is_first, return_energy)


class WithoutGradient(Right):
    def run(self, inputs, state, is_first, return_energy):
        with torch.no_grad():
            return self.run_steps(inputs, state, is_first, return_energy)


class WritesOverTheGivenState(Right):
    def step(self, x, drive, state, return_energy):
        h, after, _ = super().step(x, drive, state, return_energy)
        return h, {"h": h, "trace": state["trace"].copy_(after["trace"])}, None


class WritesOverTheInputs(Right):
    def run(self, inputs, state, is_first, return_energy):
        with torch.no_grad():
            inputs.mul_(0.5)
        return self.run_steps(inputs, state, is_first, return_energy)


class RemembersBetweenCalls(Right):
    def run(self, inputs, state, is_first, return_energy):
        self.calls = getattr(self, "calls", 0) + 1
        outputs, state, _ = self.run_steps(inputs, state, is_first, return_energy)
        return outputs + 0.01 * self.calls, state, None


class RemembersTheLastBatch(Right):
    """Only a call with other inputs shows it."""

    def run(self, inputs, state, is_first, return_energy):
        shift = getattr(self, "last", inputs).mean() - inputs.mean()
        self.last = inputs.detach()
        outputs, state, _ = self.run_steps(inputs, state, is_first, return_energy)
        return outputs + shift, state, None


class DrawsAtEveryCall(Right):
    def drive(self, inputs):
        return torch.randn_like(inputs)

    def step(self, x, drive, state, return_energy):
        return super().step(x + drive, drive, state, return_energy)


class DrawsWhatNoCheckpointHolds(Right):
    def __init__(self, input_size, hidden_size):
        super().__init__(input_size, hidden_size)
        self.mask = torch.rand(input_size)

    def step(self, x, drive, state, return_energy):
        return super().step(x * self.mask, drive, state, return_energy)


class CannotBeCopied(Right):
    def run(self, inputs, state, is_first, return_energy):
        result = self.run_steps(inputs, state, is_first, return_energy)
        self.last = result[0]
        return result


class StartsElsewhere(Right):
    def initial_state(self, batch_size):
        return {key: leaf + 1 for key, leaf in super().initial_state(batch_size).items()}


class StartsWithoutABatch(Right):
    def initial_state(self, batch_size):
        return {key: leaf[0] for key, leaf in super().initial_state(batch_size).items()}


class NegativeEnergy(Right):
    def step(self, x, drive, state, return_energy):
        h, after, _ = super().step(x, drive, state, return_energy)
        return h, after, h - 1


class EnergyWithoutUnits(Right):
    def step(self, x, drive, state, return_energy):
        h, after, _ = super().step(x, drive, state, return_energy)
        return h, after, h.square().sum(1)


class ReturnsTwoThings(Right):
    def step(self, x, drive, state, return_energy):
        return super().step(x, drive, state, return_energy)[:2]


class Fails(Right):
    def step(self, x, drive, state, return_energy):
        return x @ self.weight, state, None


class Overflows(Right):
    def step(self, x, drive, state, return_energy):
        h, after, _ = super().step(x, drive, state, return_energy)
        return h / 0.0, after, None


FAULTS = {
    IgnoresResets: r"is_first: with a reset at step 0 the outputs are not those of a sequence that begins there \(by",
    ResetsPartOfTheState: "is_first: with a reset at step 0 the outputs are not those of a sequence that begins there",
    ResetsByAProduct: "is_first: a reset of a state of NaN leaves other outputs",
    MixesSamples: "batch: a sample alone has other outputs than among others",
    LooksAhead: "steps: single steps, the state handed over, give other outputs than the sequence",
    KeepsNoState: r"step: got a dict of \['h'\] as the next state, allowed is a dict of \['h', 'trace'\]",
    KeepsAnotherState: r"state: it has \['h', 'steps', 'trace'\]; the contract wants the names of state_shapes",
    StateOfAnotherShape: r"state: 'trace' is \(4,\); the contract wants \[B, ...\] as in state_shapes, here \(3, 4\)",
    StateOfWholeNumbers: "state: the type of 'trace' is torch.int64; the contract wants that of the inputs",
    WrongOutputSize: r"outputs: their shape is \(3, 7, 8\); the contract wants \[B, T, output_size\], here \(3, 7, 4\)",
    OutputsOfAnotherType: "outputs: their type is torch.float64",
    CannotBePickled: "pickle: raised .*lambda",
    CutsTheGradientThroughTime: "gradients: that of the inputs is .* where the outputs change by",
    CutsOnePathOfTheGradient: "gradients: that of the inputs is .* where the outputs change by",
    CutsTheGradientOfAParameter: "gradients: that of parameter 'weight' is .* where|gradients: that of the inputs is",
    CutsTheGradientOfTheGivenState: "gradients: a handed-over state does not pass them on",
    WithoutGradient: "gradients: the outputs carry none",
    WritesOverTheGivenState: "state: a call changes the given 'trace' in place",
    WritesOverTheInputs: "inputs: a call changes the given tensor in place",
    RemembersBetweenCalls: "state: .* other outputs",
    RemembersTheLastBatch: "state: .* other outputs",
    DrawsAtEveryCall: "state: .* other outputs .* no chance in evaluation mode",
    DrawsWhatNoCheckpointHolds: "copies: another layer with its state_dict gives other outputs",
    CannotBeCopied: "copy.deepcopy: raised RuntimeError: Only Tensors created explicitly by the user",
    StartsElsewhere: "initial_state: 'h' is not zero",
    StartsWithoutABatch: r"initial_state: 'h' is \(4,\)",
    NegativeEnergy: "energy: there are negative numbers",
    EnergyWithoutUnits: r"energy: its shape is \(3, 7\); the contract wants \[B, T, units\]",
    ReturnsTwoThings: "a call without a state: raised ValueError: not enough values to unpack",
    Fails: rf"a call without a state: raised RuntimeError: .*\({re.escape(__file__)}:\d+\)",
    Overflows: "outputs: there are NaNs or infinities",
}


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_each_fault_is_found(fault):
    torch.manual_seed(0)
    with pytest.raises(LayerError, match=FAULTS[fault]) as raised:
        check_layer(fault(5, 4))
    message = str(raised.value)
    assert message.startswith(f"{fault.__name__}: ")
    assert "; the contract wants " in message
    assert "\n" not in message


def test_a_layer_without_a_fault_passes_and_stays_as_it_was():
    layer = Right(5, 4, keep=0.5).train()
    before = {key: value.clone() for key, value in layer.state_dict().items()}
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    check_layer(layer)
    assert torch.equal(torch.rand(1), expected)
    assert layer.training
    assert all(torch.equal(value, before[key]) for key, value in layer.state_dict().items())
    assert all(parameter.grad is None for parameter in layer.parameters())


@pytest.mark.parametrize(("name", "options"), CASES.values(), ids=CASES.keys())
def test_every_layer_of_the_package_passes(name, options):
    check_layer(make_layer(name, input_size=5, hidden_size=4, **options))


class Dropout(Right):
    """Chance in training alone."""

    def drive(self, inputs):
        return torch.nn.functional.dropout(inputs, 0.5, self.training)

    def step(self, x, drive, state, return_energy):
        return super().step(drive, drive, state, return_energy)


class WithoutParameters(Layer):
    def state_shapes(self):
        return {"trace": (self.input_size,)}

    @property
    def output_size(self):
        return 2 * self.input_size

    def step(self, x, drive, state, return_energy):
        trace = 0.9 * state["trace"] + x
        return torch.cat([x, trace], 1), {"trace": trace}, None


class Window(Right):
    """The last inputs, and how many there were so far: a state that any numbers would not do for."""

    def state_shapes(self):
        return {"last": (3, self.input_size), "count": ()}

    def step(self, x, drive, state, return_energy):
        last = torch.cat([state["last"][:, 1:], x[:, None]], 1)
        count = state["count"] + 1
        known = torch.arange(3, 0, -1) <= count[:, None]  # [B, 3]
        mean = (last * known[..., None]).sum(1) / count.clamp(max=3)[:, None]
        return torch.tanh(mean @ self.weight.T), {"last": last, "count": count}, None


class OfFloat32(Right):
    """What it makes itself has one type."""

    def step(self, x, drive, state, return_energy):
        noughts = torch.zeros(len(x), self.hidden_size, dtype=torch.float32)
        h, after, _ = super().step(x, drive, state, return_energy)
        return h + noughts @ torch.ones(self.hidden_size, self.hidden_size) @ self.recurrent, after, None


class Spikes(Right):
    """0 or 1, with the gradient of a sigmoid."""

    def step(self, x, drive, state, return_energy):
        h, after, _ = super().step(x, drive, state, return_energy)
        soft = torch.sigmoid(5 * h)
        return soft + ((h > 0).float() - soft).detach(), after, None


@pytest.mark.parametrize("kind", [Dropout, WithoutParameters, Window, OfFloat32])
def test_unusual_layers_pass(kind):
    torch.manual_seed(0)
    check_layer(kind(5, 4))


def test_surrogate_gradients_are_let_pass_where_they_are_meant():
    torch.manual_seed(0)
    with pytest.raises(LayerError, match="exact_gradients=False for surrogates"):
        check_layer(Spikes(5, 4))
    check_layer(Spikes(5, 4), exact_gradients=False)


def test_something_else_is_no_layer():
    with pytest.raises(LayerError, match="check_layer: got LSTM; the contract wants a rllib_stpn.layers.Layer"):
        check_layer(torch.nn.LSTM(5, 4))
    assert issubclass(LayerError, UsageError)
