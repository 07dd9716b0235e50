"""Layers and policies that leave Python's hands: torch.export, ONNX, torch.compile."""

import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Discrete

import rllib_stpn
from rllib_stpn import pretrained
from rllib_stpn.agents.export import PolicyStep
from rllib_stpn.errors import UsageError
from rllib_stpn.layers import LAYERS, make_layer
from rllib_stpn.models import MemoryRLModule, recurrent_spec

OPTIONS = {"stpn": {"normalize": "post", "clamp": 1.0}, "fast_weights": {}, "plastic_lstm": {}}


class Sequence(torch.nn.Module):
    """A layer with its arguments in a row, as torch.export wants them."""

    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def forward(self, inputs, is_first, state):
        return self.layer(inputs, state, is_first=is_first)


def arguments(layer, steps):
    torch.manual_seed(0)
    state = {name: 0.1 * torch.randn_like(leaf) for name, leaf in layer.initial_state(2).items()}
    is_first = torch.zeros(2, steps, dtype=torch.bool)
    is_first[0, 0] = is_first[1, -1] = True
    return torch.randn(2, steps, 3), is_first, state


def assert_same(found, expected):
    found, expected = (torch.utils._pytree.tree_leaves(each) for each in (found, expected))
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", LAYERS)
@torch.no_grad()
def test_an_exported_layer_computes_what_the_fast_one_does(name):
    layer = make_layer(name, input_size=3, hidden_size=4, **OPTIONS.get(name, {})).eval()
    given = arguments(layer, 2)
    program = torch.export.export(Sequence(layer), given)
    assert_same(program.module()(*given), layer(given[0], given[2], is_first=given[1]))


def test_the_energy_is_exported_too():
    layer = make_layer("stpn", input_size=3, hidden_size=4).eval()

    class Measured(Sequence):
        def forward(self, inputs, is_first, state):
            return self.layer(inputs, state, is_first=is_first, return_energy=True)

    with torch.no_grad():
        given = arguments(layer, 2)
        program = torch.export.export(Measured(layer), given)
        assert_same(program.module()(*given), layer(given[0], given[2], is_first=given[1], return_energy=True))


def played(name, run, steps, batch=3):
    """How often the greedy actions of ``run`` are the agent's own, with resets in between."""
    agent = rllib_stpn.load(name)
    env = agent.make_env(num_envs=batch)
    observations, _ = env.reset(seed=0)
    first, state, agreed = np.ones(batch, bool), None, 0
    for step in range(steps):
        logits = run(np.asarray(observations), first)
        actions, state = agent.step(observations, state, first)
        agreed += int((logits.argmax(-1) == actions).sum())
        observations, _, terminated, truncated, _ = env.step(actions)
        first = terminated | truncated
        first[0] |= step == steps // 2
    return agreed / (steps * batch)


@pytest.mark.skipif("retrieval_stpn" not in pretrained.names(), reason="its file is not there")
@torch.no_grad()
def test_an_exported_policy_acts_as_the_agent():
    step = PolicyStep(rllib_stpn.load("retrieval_stpn")).eval()
    program = torch.export.export(step, step.example(batch_size=3)).module()
    state = step.initial_state(3)

    def run(observations, first):
        nonlocal state
        logits, state = program(torch.as_tensor(observations), torch.as_tensor(first), state)
        return logits.numpy()

    assert played("retrieval_stpn", run, steps=30) > 0.95  # rounding may decide between equal ones


@pytest.mark.skipif("retrieval_stpn" not in pretrained.names(), reason="its file is not there")
@torch.no_grad()
def test_so_does_one_in_onnx_runtime(tmp_path):
    pytest.importorskip("onnxscript")
    runtime = pytest.importorskip("onnxruntime")
    step = PolicyStep(rllib_stpn.load("retrieval_stpn")).eval()
    program = torch.export.export(step, step.example(batch_size=3))
    torch.onnx.export(program, dynamo=True, verbose=False).save(tmp_path / "policy.onnx")
    session = runtime.InferenceSession(tmp_path / "policy.onnx")
    names = [each.name for each in session.get_inputs()]
    state = [leaf.numpy() for leaf in step.initial_state(3).values()]

    def run(observations, first):
        nonlocal state
        logits, *state = session.run(None, dict(zip(names, [observations, first, *state], strict=True)))
        return logits

    assert played("retrieval_stpn", run, steps=30) > 0.95


@torch.no_grad()
def test_a_policy_with_a_value_network_of_its_own_is_a_step_too(ray_session):
    spec = recurrent_spec("gru", hidden_size=4, max_seq_len=5, vf_share_layers=False)
    spaces = {"observation_space": Box(-1, 1, (3,)), "action_space": Discrete(2)}
    for name, space in spaces.items():
        setattr(spec, name, space)
    module = spec.build()
    step = PolicyStep(type("Agent", (), {"module": module})())
    observations, is_first, state = step.example(batch_size=3)
    logits, state = step(observations + 0.5, is_first, state)
    expected = module.forward_inference({"obs": observations[:, None] + 0.5, "state_in": step.initial_state(3)})
    torch.testing.assert_close(logits, expected["action_dist_inputs"][:, 0])
    again, _ = step(observations + 0.5, torch.tensor([True, False, True]), state)
    torch.testing.assert_close(again[[0, 2]], logits[[0, 2]])
    assert not torch.equal(again[1], logits[1])


BATCH = torch.export.Dim("batch")


@torch.no_grad()
@pytest.mark.parametrize("name", LAYERS)
def test_a_layer_is_exported_for_any_batch(name):
    layer = make_layer(name, input_size=3, hidden_size=4, **OPTIONS.get(name, {})).eval()
    given = torch.randn(4, 2, 3), torch.zeros(4, 2, dtype=torch.bool), layer.initial_state(4)
    any_batch = {0: BATCH}, {0: BATCH}, {key: {0: BATCH} for key in given[2]}
    program = torch.export.export(Sequence(layer), given, dynamic_shapes=any_batch).module()
    for batch in (2, 200):
        inputs, is_first = torch.randn(batch, 2, 3), torch.rand(batch, 2) < 0.5
        state = layer.initial_state(batch)
        assert_same(program(inputs, is_first, state)[0], layer(inputs, state, is_first=is_first)[0])


@torch.no_grad()
@pytest.mark.parametrize("name", sorted({"maze_stpn", "maze_lstm"} & set(pretrained.names())))
def test_a_policy_is_exported_for_any_batch(name):
    step = PolicyStep(rllib_stpn.load(name)).eval()
    given = step.example(batch_size=4)
    any_batch = {0: BATCH}, {0: BATCH}, {key: {0: BATCH} for key in given[2]}
    program = torch.export.export(step, given, dynamic_shapes=any_batch).module()
    others = step.example(batch_size=7)
    assert_same(program(*others), step(*others))


def test_a_module_of_rllibs_own_is_refused():
    agent = type("Agent", (), {"module": torch.nn.Linear(1, 1)})()
    with pytest.raises(UsageError, match="export: got Linear, allowed are modules of this package"):
        PolicyStep(agent)


def test_a_module_that_acts_its_own_way_is_refused():
    class Mine(MemoryRLModule):
        def _forward_inference(self, batch, **kwargs):
            return super()._forward_inference(batch, **kwargs)

    agent = type("Agent", (), {"module": Mine.__new__(Mine)})()
    with pytest.raises(UsageError, match="export: got Mine with its own _forward_inference"):
        PolicyStep(agent)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["stpn", "modulated_plastic_rnn", "lstm"])
def test_a_compiled_layer_has_the_same_outputs_and_gradients_and_prints_no_errors(name, capfd):
    layer = make_layer(name, input_size=3, hidden_size=4)
    inputs, is_first, state = arguments(layer, 3)

    def learned(forward):
        layer.zero_grad()
        outputs, after = forward(inputs, state, is_first=is_first)
        outputs.square().sum().backward()
        return outputs, after, [parameter.grad.clone() for parameter in layer.parameters()]

    assert_same(learned(torch.compile(layer)), learned(layer))
    with torch.no_grad():
        assert_same(torch.compile(layer)(inputs, state), layer(inputs, state))
    told = capfd.readouterr().err
    assert "Lease" not in told and "Error" not in told, told
