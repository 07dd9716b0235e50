"""A trained agent, loaded without Ray, acts as the algorithm's own env runner does."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from ray.rllib.algorithms.appo import APPOConfig
from ray.rllib.algorithms.dqn import DQNConfig
from ray.rllib.algorithms.impala import IMPALAConfig
from ray.rllib.algorithms.ppo import PPOConfig
from ray.rllib.algorithms.sac import SACConfig
from ray.rllib.connectors.env_to_module import FlattenObservations, MeanStdFilter, PrevActionsPrevRewards
from ray.rllib.core.columns import Columns
from ray.rllib.env.single_agent_env_runner import SingleAgentEnvRunner

import rllib_stpn.agents.agent
import rllib_stpn.agents.environments
from rllib_stpn.algorithms import A2CConfig
from rllib_stpn.models import recurrent_spec
from rllib_stpn.rollouts import use_batched_rollouts

REPOSITORY = Path(__file__).parents[2]
NUM_ENVS, STEPS = 3, 40


def ppo(batched=True):
    config = PPOConfig().training(train_batch_size=60, minibatch_size=60, num_epochs=1)
    return use_batched_rollouts(config) if batched else config.env_runners(env_runner_cls=SingleAgentEnvRunner)


def mean_std(env, spaces, device):
    return MeanStdFilter(clip_by_value=1.5)


def one_hot(env, spaces, device):
    return FlattenObservations(input_observation_space=env.single_observation_space)  # it wants the environment


def with_previous(env, spaces, device):
    return [PrevActionsPrevRewards(n_prev_actions=2, n_prev_rewards=1), FlattenObservations()]


# name: (config, environment, connectors, layer of the model (None: RLlib's own), remote env runners)
CASES = {
    "a2c-stpn": (A2CConfig(), "CartPole-v1", None, "stpn", 0),
    "a2c-lstm-continuous": (A2CConfig(), "Pendulum-v1", mean_std, "lstm", 0),
    "ppo-mlp": (ppo(), "CartPole-v1", mean_std, "mlp", 0),
    "ppo-stpn-one-hot": (ppo(), "FrozenLake-v1", one_hot, "stpn", 0),
    "stock-ppo-own-model": (ppo(False), "Pendulum-v1", mean_std, None, 1),
    "stock-ppo-own-lstm": (ppo(False), "CartPole-v1", None, "use_lstm", 0),
    "stock-ppo-stpn": (ppo(False), "Pendulum-v1", mean_std, "stpn", 0),
    "stock-ppo-previous": (ppo(False), "CartPole-v1", with_previous, "stpn", 0),
    "impala": (IMPALAConfig().learners(num_learners=0), "CartPole-v1", None, None, 0),
    "appo": (APPOConfig().learners(num_learners=0), "CartPole-v1", mean_std, "stpn", 0),
    "dqn": (DQNConfig(), "CartPole-v1", None, None, 0),
    "sac": (SACConfig(), "Pendulum-v1", mean_std, None, 0),
}
SLOW = ["impala", "dqn", "sac"]
QUICK = [case for case in CASES if case not in SLOW]
TRAINED = [case for case, (config, *_) in CASES.items() if isinstance(config, (A2CConfig, PPOConfig))]


def build(case):
    config, env, connectors, layer, remote = CASES[case]
    config = config.copy(copy_frozen=False)
    config.environment(env).env_runners(
        num_env_runners=remote, num_envs_per_env_runner=NUM_ENVS, rollout_fragment_length=20
    )
    if connectors:
        config.env_runners(env_to_module_connector=connectors)
    if layer == "use_lstm":
        config.rl_module(model_config={"use_lstm": True, "lstm_cell_size": 8, "max_seq_len": 10, "fcnet_hiddens": [8]})
    elif layer:
        config.rl_module(rl_module_spec=recurrent_spec(layer, hidden_size=6))
    return config.debugging(seed=4).build_algo()


def greedy_record(runner) -> dict[str, np.ndarray]:
    """What an env runner's environments show and are given, greedily, step by step: ``[T, N, ...]``."""
    for connector in runner._env_to_module.connectors:
        if isinstance(connector, MeanStdFilter):
            connector._update_stats = False
    record: dict = {"obs": [], "actions": [], "rewards": [np.zeros(NUM_ENVS)], "first": [np.ones(NUM_ENVS, bool)]}
    ended = [np.zeros(NUM_ENVS, bool)]
    reset, step = runner.env.reset, runner.env.step

    def recorded_reset(**arguments):
        observations, infos = reset(**arguments)
        record["obs"].append(observations)
        return observations, infos

    def recorded_step(actions):
        results = step(actions)
        record["actions"].append(np.array(actions))
        record["obs"].append(results[0])
        record["rewards"].append(results[1])
        record["first"].append(ended[-1])  # next-step autoreset: this step only reset them
        ended.append(results[2] | results[3])
        return results

    runner.env.reset, runner.env.step = recorded_reset, recorded_step
    runner.sample(num_timesteps=STEPS * NUM_ENVS, explore=False, force_reset=True)
    steps = len(record["actions"])
    return {name: np.array(values[:steps]) for name, values in record.items()} | {"counts": ~np.array(ended[:steps])}


REPLAY = """
import sys, json, numpy as np, rllib_stpn
differences = {}
for directory in sys.argv[1:]:
    agent, record = rllib_stpn.load(directory + "/checkpoint"), dict(np.load(directory + "/record.npz"))
    state, largest, compared = None, 0.0, 0
    for obs, first, rewards, counts, expected in zip(
        *(record[name] for name in ("obs", "first", "rewards", "counts", "actions"))
    ):
        actions, state = agent.step(obs, state, first, rewards=rewards)
        assert actions.shape == expected.shape
        if counts.any():
            largest = max(largest, float(np.abs(actions - expected)[counts].max()))
            compared += int(counts.sum())
    actions, _ = agent.step(record["obs"][0], explore=True)
    differences[directory] = [largest, compared, all(map(agent.action_space.contains, actions))]
import ray
assert not ray.is_initialized()
print(json.dumps(differences))
"""


def make(root, cases):
    """Writes a checkpoint of each case, and what its env runner did."""
    for case in cases:
        algo = build(case)
        try:
            if case in TRAINED:
                algo.train()
            algo.save_to_path(root / case / "checkpoint")
            if algo.env_runner.env is None:
                algo.env_runner.make_env()
            if CASES[case][4]:  # the weights went to the remote runners only
                algo.env_runner.module.set_state(algo.get_module().get_state())
                algo.env_runner.num_envs, algo.env_runner._ongoing_episodes = NUM_ENVS, [None] * NUM_ENVS
            np.savez(root / case / "record.npz", **greedy_record(algo.env_runner))
        finally:
            algo.stop()


def replay(root, cases):
    """What agents, loaded in a process without Ray, make of the same observations: by case, see ``REPLAY``."""
    done = subprocess.run(
        [sys.executable, "-c", REPLAY, *(str(root / case) for case in cases)],
        capture_output=True,
        text=True,
        cwd=REPOSITORY,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return {Path(name).name: found for name, found in json.loads(done.stdout.strip().splitlines()[-1]).items()}


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory, ray_session):
    root = tmp_path_factory.mktemp("checkpoints")
    make(root, QUICK)
    return root


@pytest.fixture(scope="module")
def replayed(checkpoints):
    return replay(checkpoints, QUICK)


def check(difference, compared, allowed):
    assert compared >= STEPS * NUM_ENVS * 0.8
    assert difference < 1e-5
    assert allowed


@pytest.mark.parametrize("case", QUICK)
def test_greedy_actions_are_those_of_the_env_runner(replayed, case):
    check(*replayed[case])


@pytest.mark.slow
def test_greedy_actions_are_those_of_the_env_runner_with_further_algorithms(ray_session, tmp_path):
    make(tmp_path, SLOW)
    for found in replay(tmp_path, SLOW).values():
        check(*found)


def load(checkpoints, case):
    return rllib_stpn.load(checkpoints / case / "checkpoint")


def some_observations(agent, steps, batch):
    return np.random.default_rng(0).normal(size=(steps, batch, *agent.observation_space.shape)).astype(np.float32)


@pytest.mark.parametrize("case", ["a2c-lstm-continuous", "stock-ppo-stpn"])
def test_steps_equal_one_sequence_and_is_first_starts_afresh(checkpoints, case):
    agent = load(checkpoints, case)
    observations = some_observations(agent, 6, 4)
    first = np.zeros((6, 4), bool)
    first[3, 1] = True
    state, actions = agent.initial_state(4), []
    for t in range(6):
        action, state = agent.step(observations[t], state, first[t])
        actions.append(action)
    (filter_,) = (c for c in agent._env_to_module.connectors if isinstance(c, MeanStdFilter))
    statistics = filter_._filters[None].running_stats
    assert statistics.num_pushes >= 60
    filtered = np.clip((observations - statistics.mean) / (statistics.std + 1e-8), -1.5, 1.5)

    def whole(rows, start):
        batch = {Columns.OBS: torch.from_numpy(filtered[start:, rows]).float().transpose(0, 1)}
        batch[Columns.STATE_IN] = agent.initial_state(len(rows))
        outputs = agent.module.forward_inference(batch)[Columns.ACTION_DIST_INPUTS]
        return np.clip(2 * outputs[..., :1].detach().transpose(0, 1).numpy(), -2, 2)  # to the range of Pendulum

    np.testing.assert_allclose(np.array(actions)[:, [0, 2, 3]], whole([0, 2, 3], 0), atol=1e-5)
    np.testing.assert_allclose(np.array(actions)[3:, [1]], whole([1], 3), atol=1e-5)
    assert np.abs(np.array(actions)[3:, [1]] - whole([1], 0)[3:]).max() > 1e-4


def test_a_state_that_was_given_stays_as_it_is(checkpoints):
    agent = load(checkpoints, "a2c-stpn")
    first, second = some_observations(agent, 2, 4)
    _, state = agent.step(first)
    before = {name: leaf.clone() for name, leaf in state.items()}
    assert any(leaf.abs().max() > 0 for leaf in before.values())
    agent.step(second, state, np.array([True, False, False, True]))
    for name, leaf in state.items():
        torch.testing.assert_close(leaf, before[name])


def test_sampled_actions_follow_the_distribution_and_the_generator(checkpoints):
    agent = load(checkpoints, "ppo-mlp")
    observations = np.repeat(some_observations(agent, 1, 1)[0], 4000, axis=0)
    seed = torch.get_rng_state()
    draws = [agent.step(observations, explore=True, generator=torch.Generator().manual_seed(1))[0] for _ in range(2)]
    assert torch.equal(seed, torch.get_rng_state())
    np.testing.assert_array_equal(*draws)
    (transform,) = agent._observation_transforms
    logits = agent.module.forward_inference({Columns.OBS: torch.from_numpy(transform(observations[:1]))})
    probability = logits[Columns.ACTION_DIST_INPUTS].softmax(-1)[0, 1].item()
    assert draws[0].mean() == pytest.approx(probability, abs=4 * (probability * (1 - probability) / 4000) ** 0.5)
    generator = torch.Generator().manual_seed(1)
    agent.step(observations, explore=True, generator=generator)
    assert (agent.step(observations, explore=True, generator=generator)[0] != draws[0]).any()


@pytest.mark.parametrize("case", [case for case in QUICK if "one-hot" not in case])
def test_with_a_generator_for_each_environment_none_depends_on_the_others(checkpoints, case):
    agent = load(checkpoints, case)
    observations, played = some_observations(agent, 6, 5), []
    for rows in (slice(0, 5), slice(3, 5)):
        state, actions = None, []
        generators = [torch.Generator().manual_seed(seed) for seed in range(5)][rows]
        for t, of_step in enumerate(observations):
            first, rewards = np.full(5, t in (0, 3))[rows], np.ones(5)[rows]
            chosen, state = agent.step(
                of_step[rows], state, first, explore=True, generator=generators, rewards=rewards
            )  # fmt: skip
            actions.append(np.asarray(chosen))
        played.append(np.stack(actions))
    assert played[0].shape[:2] == (6, 5) and len(np.unique(played[0])) > 1
    np.testing.assert_allclose(played[0][:, 3:], played[1], rtol=1e-4, atol=1e-5)  # products of fewer rows


@pytest.mark.parametrize("explore", [False, True])
def test_a_module_that_draws_by_itself_draws_for_each_environment(checkpoints, explore, monkeypatch):
    agent, seed = load(checkpoints, "a2c-lstm-continuous"), torch.get_rng_state()
    forward = type(agent.module)._forward

    def noisy(self, batch, **more):
        outputs = forward(self, batch, **more)
        inputs = outputs[Columns.ACTION_DIST_INPUTS]
        return outputs | {Columns.ACTION_DIST_INPUTS: inputs + torch.rand_like(inputs)}

    monkeypatch.setattr(type(agent.module), "_forward", noisy)
    observations = some_observations(agent, 1, 5)[0]
    played = []
    for rows in (slice(0, 5), slice(3, 5), slice(3, 5)):
        generators = [torch.Generator().manual_seed(seed) for seed in range(5)][rows]
        played.append(agent.step(observations[rows], explore=explore, generator=generators)[0])
    np.testing.assert_allclose(played[0][3:], played[1], rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(played[1], played[2])
    assert torch.equal(seed, torch.get_rng_state())


def test_as_many_generators_as_environments_are_wanted(checkpoints):
    agent = load(checkpoints, "ppo-mlp")
    with pytest.raises(rllib_stpn.UsageError, match="generator: got 2 of them, allowed are 1 and 3"):
        agent.step(some_observations(agent, 1, 3)[0], explore=True, generator=[torch.Generator()] * 2)


@pytest.mark.parametrize("case", ["a2c-lstm-continuous", "stock-ppo-stpn"])
def test_sampled_actions_are_brought_to_the_environments_range(checkpoints, case):
    agent = load(checkpoints, case)
    observations = some_observations(agent, 1, 4)[0]
    inputs = {Columns.STATE_IN: agent.initial_state(4)}
    inputs[Columns.OBS] = torch.from_numpy(agent._observation_transforms[0](observations))[:, None]
    logits = agent.module.forward_exploration(inputs)[Columns.ACTION_DIST_INPUTS][:, 0]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)
        sampled = agent.module.get_exploration_action_dist_cls().from_logits(logits).sample()
    actions, _ = agent.step(observations, explore=True, generator=torch.Generator().manual_seed(7))
    np.testing.assert_allclose(actions, np.clip(2 * sampled, -2, 2), atol=1e-5)  # Pendulum's torque
    assert np.abs(actions - agent.step(observations)[0]).min() > 1e-3


@pytest.mark.parametrize("case", ["a2c-stpn", "ppo-mlp", "stock-ppo-previous"])
def test_energy_is_that_of_the_layers_own_measure(checkpoints, case):
    agent = load(checkpoints, case)
    seen = []
    (encoder,) = rllib_stpn.agents.agent.encoders(agent.module).values()
    encoder.layer.register_forward_pre_hook(lambda layer, arguments: seen.append(arguments))
    observations = some_observations(agent, 3, 2)
    state = None
    for t in range(3):
        actions, state, energy = agent.step(observations[t], state, rewards=np.ones(2), return_energy=True)
        inputs, before = seen[-1][:2]
        assert energy.shape == (2,)
        torch.testing.assert_close(energy, encoder.layer(inputs, before, return_energy=True)[2].sum((1, 2)))
        seen.clear()
    without, _ = agent.step(observations[0])[:2]
    assert len(agent.step(observations[0])) == 2


def test_environments_are_those_of_training(checkpoints):
    agent = load(checkpoints, "a2c-lstm-continuous")
    assert (agent.env_id, agent.algorithm) == ("Pendulum-v1", "A2C")
    env, vec = agent.make_env(), agent.make_env(num_envs=2)
    assert env.observation_space == agent.observation_space == vec.single_observation_space
    np.testing.assert_array_equal(vec.reset(seed=[5, 9])[0][1], env.reset(seed=9)[0])
    pong = rllib_stpn.agents.environments.make_env("stpn/Pong-v0", {"frame_skip": 4}, num_envs=2)
    assert type(pong).__name__ == "AtariVectorEnv"
    pong.close()


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"observations": np.zeros((2, 5), np.float32)}, r"observations: got shapes \[\(2, 5\)\].*\[N, ...\].*Box"),
        ({"observations": np.zeros(4, np.float32)}, "observations: got shapes"),
        ({"observations": {"a": 1}}, "observations: got"),
        ({"observations": np.full((2, 4), np.nan, np.float32)}, "observation 0 .*not finite.*nan"),
        ({"is_first": np.zeros(3, bool)}, r"is_first: got bool \(3,\), allowed is bool \(2,\)"),
        ({"is_first": np.zeros(2)}, "is_first: got float64"),
        ({"state": {"h": torch.zeros(2, 6)}}, r"state: got shapes .*allowed are \[\(2, 6, 10\), \(2, 6\)\]"),
    ],
)
def test_what_does_not_fit_is_named(checkpoints, arguments, message):
    agent = load(checkpoints, "a2c-stpn")
    with pytest.raises(rllib_stpn.UsageError, match=message):
        agent.step(**{"observations": np.zeros((2, 4), np.float32), **arguments})


def test_rewards_are_asked_for_where_connectors_read_them(checkpoints):
    agent = load(checkpoints, "stock-ppo-previous")
    _, state = agent.step(np.zeros((2, 4), np.float32))
    with pytest.raises(rllib_stpn.UsageError, match="rewards need `rewards`"):
        agent.step(np.zeros((2, 4), np.float32), state)


def test_energy_of_a_module_without_layers_is_refused(checkpoints):
    with pytest.raises(rllib_stpn.UsageError, match="energy: got .*Module without layers"):
        load(checkpoints, "stock-ppo-own-model").step(np.zeros((2, 3), np.float32), return_energy=True)


# --- what is found in a directory ---------------------------------------------------------------------------------


def test_the_newest_whole_checkpoint_of_a_trial_and_an_experiment(checkpoints, tmp_path):
    for number, case in enumerate(["ppo-mlp", "a2c-stpn", "stock-ppo-stpn"]):
        shutil.copytree(checkpoints / case / "checkpoint", tmp_path / "experiment/trial_a" / f"checkpoint_{number:06}")
    next((tmp_path / "experiment/trial_a/checkpoint_000002").rglob("module_state.pkl")).unlink()
    shutil.rmtree(tmp_path / "experiment/trial_a/checkpoint_000002/learner_group")
    with pytest.warns(UserWarning, match="checkpoint_000002: broken: .* is missing: left out, checkpoint_000001 is"):
        assert rllib_stpn.load(tmp_path / "experiment/trial_a").algorithm == "A2C"
    shutil.copytree(checkpoints / "appo/checkpoint", tmp_path / "experiment/trial_b/checkpoint_000000")
    (tmp_path / "experiment/trial_b/checkpoint_000000").touch()
    agent = rllib_stpn.load(str(tmp_path / "experiment"))
    assert agent.algorithm == "APPO"
    assert agent.checkpoint == tmp_path / "experiment/trial_b/checkpoint_000000"
    with pytest.raises(rllib_stpn.UsageError, match="broken: learner_group.* missing; checkpoint_000001 beside it"):
        rllib_stpn.load(tmp_path / "experiment/trial_a/checkpoint_000002")


@pytest.mark.parametrize("case", ["ppo-mlp", "stock-ppo-stpn"])
def test_a_checkpoint_is_found_by_a_relative_path(checkpoints, monkeypatch, case):
    monkeypatch.chdir(checkpoints / case)
    assert rllib_stpn.load("checkpoint").checkpoint == checkpoints / case / "checkpoint"


def test_what_is_no_checkpoint_is_told(tmp_path):
    (tmp_path / "notes.txt").write_text("x")
    for path, message in {
        tmp_path / "nowhere": "nowhere: no such directory",
        tmp_path / "notes.txt": "notes.txt: got a file",
        tmp_path: "with notes.txt in it, allowed is a checkpoint of RLlib",
    }.items():
        with pytest.raises(rllib_stpn.UsageError, match=message):
            rllib_stpn.load(path)


def test_weights_of_another_model_are_refused_in_one_line(checkpoints, tmp_path):
    shutil.copytree(checkpoints / "a2c-stpn/checkpoint", tmp_path / "mixed")
    weights = "learner_group/learner/rl_module/default_policy/module_state.pkl"
    shutil.copy(checkpoints / "ppo-mlp/checkpoint" / weights, tmp_path / "mixed" / weights)
    with pytest.raises(rllib_stpn.UsageError, match=r"mixed: cannot be loaded: .*for MemoryRLModule") as error:
        rllib_stpn.load(tmp_path / "mixed")
    assert "\n" not in str(error.value)


def test_a_damaged_file_is_told(checkpoints, tmp_path):
    shutil.copytree(checkpoints / "a2c-stpn/checkpoint", tmp_path / "damaged")
    (tmp_path / "damaged/class_and_ctor_args.pkl").write_bytes(b"\x80\x04")
    with pytest.raises(rllib_stpn.UsageError, match="damaged: broken: class_and_ctor_args.pkl is cut short or garbled"):
        rllib_stpn.load(tmp_path / "damaged")


def test_a_checkpoint_of_another_version_is_told(checkpoints, tmp_path):
    shutil.copytree(checkpoints / "a2c-stpn/checkpoint", tmp_path / "earlier")
    moved = b"crllib_stpn.callbacks.energy\nEnergyMetricsCallback\n."  # what a pickle holds of a class
    (tmp_path / "earlier/class_and_ctor_args.pkl").write_bytes(moved)
    with pytest.raises(rllib_stpn.UsageError, match=r"'rllib_stpn\.callbacks', which this version does not have"):
        rllib_stpn.load(tmp_path / "earlier")


def test_the_old_stack_is_refused_by_name(ray_session, tmp_path):
    old = PPOConfig().environment("CartPole-v1").env_runners(num_env_runners=0)
    old.api_stack(enable_rl_module_and_learner=False, enable_env_runner_and_connector_v2=False)
    algo = old.build_algo()
    algo.save_checkpoint(str(tmp_path))
    algo.stop()
    with pytest.raises(rllib_stpn.UsageError, match=r"old API stack \(version 1\.\d\)"):
        rllib_stpn.load(tmp_path)
