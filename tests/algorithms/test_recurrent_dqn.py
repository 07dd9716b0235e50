"""DQN with memory: what is replayed, how it explores, what it refuses, and that its agents are loaded."""

import numpy as np
import pytest
import torch
from ray.rllib.core import DEFAULT_MODULE_ID
from ray.rllib.core.columns import Columns
from ray.tune import register_env

import rllib_stpn
from rllib_stpn.algorithms.recurrent_replay import SequenceEpisodeReplayBuffer
from rllib_stpn.errors import UsageError
from rllib_stpn.experiments.building import build_config
from rllib_stpn.experiments.compatibility import check
from rllib_stpn.models import MemoryQModule
from rllib_stpn.rollouts import EpisodeEnvRunner
from tests.models.test_stock import to_batch
from tests.rollouts.scripted_env import make_scripted
from tests.trained_agent import trained_agent

LENGTH = 4
LSTM = {"use_lstm": True, "lstm_cell_size": 5, "fcnet_hiddens": [5], "max_seq_len": LENGTH}


def model_of(layer):
    if layer == "use_lstm":
        return LSTM
    return {"custom_model": layer, "custom_model_config": {"hidden_size": 5}, "max_seq_len": LENGTH}


def config_of(layer, **settings):
    register_env("scripted", make_scripted)
    return build_config(
        "DQN",
        {
            "env": "scripted",
            "num_env_runners": 0,
            "num_envs_per_env_runner": 3,
            "rollout_fragment_length": 4,
            "num_steps_sampled_before_learning_starts": 12,
            "train_batch_size_per_learner": 16,
            "min_sample_timesteps_per_iteration": 24,
            "min_time_s_per_iteration": 0,
            "burn_in_len": 1,
            "seed": 0,
            "model": model_of(layer),
            **settings,
        },
    )


def q_values(module, observations):
    """Q-values ``[T, actions]`` of a whole episode, in one sequence from the initial state."""
    start = {name: leaf[None] for name, leaf in module.get_initial_state().items()}
    batch = {Columns.OBS: torch.from_numpy(np.stack(observations))[None], Columns.STATE_IN: start}
    with torch.no_grad():
        return module.compute_q_values(batch)["qf_preds"][0]


@pytest.mark.parametrize("double_q", [True, False])
@pytest.mark.parametrize("layer", ["stpn", "lstm", "modulated_plastic_rnn", "use_lstm"])
def test_a_replayed_sequence_has_the_q_values_of_its_whole_episode(layer, double_q):
    config = config_of(layer, double_q=double_q)
    runner = EpisodeEnvRunner(config=config, worker_index=0)
    learner = config.build_learner(spaces=runner.get_spaces())
    learner.module.set_state({DEFAULT_MODULE_ID: runner.module.get_state()})
    module = learner.module[DEFAULT_MODULE_ID]
    module.make_target_networks()
    buffer = SequenceEpisodeReplayBuffer(capacity=1000)
    for _ in range(10):
        buffer.add(runner.sample(num_timesteps=12, explore=True))
    drawn = buffer.sample(num_items=200, n_step=1, batch_length_T=LENGTH, lookback=1, gamma=0.9, sample_episodes=True)
    assert len({episode.t_started for episode in drawn}) > 2  # in the middle, too
    batch = to_batch(learner, drawn)[DEFAULT_MODULE_ID]
    with torch.no_grad():
        outputs = module.forward_train(batch)
    whole = {episode.id_: q_values(module, episode.get_observations()) for episode in buffer.episodes}
    for row, episode in enumerate(drawn):
        begin, steps = episode.t_started, len(episode)
        for name, first in (("qf_preds", begin), ("qf_target_next_preds", begin + 1)):
            expected = whole[episode.id_.partition("/")[0]][first : first + steps]
            torch.testing.assert_close(outputs[name][row, :steps], expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("layer", ["gru", "use_lstm"])
def test_environments_explore_by_themselves(layer):
    runner = EpisodeEnvRunner(config=config_of(layer, epsilon=1.0, num_envs_per_env_runner=4), worker_index=0)
    taken = [episode.get_actions() for episode in runner.sample(num_timesteps=400, explore=True)]
    counts = np.bincount(np.concatenate(taken), minlength=3) / sum(map(len, taken))
    assert counts == pytest.approx([1 / 3] * 3, abs=0.1)  # 4 standard deviations
    together = torch.stack(
        [
            runner.module.forward_exploration(
                {
                    Columns.OBS: torch.zeros(4, 1, 3),
                    Columns.STATE_IN: {k: v.expand(4, *v.shape) for k, v in runner.module.get_initial_state().items()},
                },
                t=0,
            )[Columns.ACTIONS]
            for _ in range(20)
        ]
    )
    assert together.shape == (20, 4, 1)
    assert (together != together[:, :1]).any()  # one draw for all would be alike


def test_without_epsilon_the_action_is_the_greedy_one():
    runner = EpisodeEnvRunner(config=config_of("stpn", epsilon=0.0), worker_index=0)
    module = runner.module
    batch = {Columns.OBS: torch.randn(6, 1, 3), Columns.STATE_IN: {}}
    batch[Columns.STATE_IN] = {k: v.expand(6, *v.shape).clone() for k, v in module.get_initial_state().items()}
    best = module.compute_q_values(batch)["qf_preds"].argmax(-1)
    assert torch.equal(module.forward_exploration(batch, t=0)[Columns.ACTIONS], best)


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"n_step": 3}, "n_step: got 3 with memory, allowed is 1: RLlib draws no sequences"),
        ({"num_atoms": 5}, "num_atoms: got 5 with memory, allowed is 1"),
        (
            {"replay_buffer_config": {"type": "PrioritizedEpisodeReplayBuffer", "capacity": 9}},
            "replay_buffer_config: type: got 'PrioritizedEpisodeReplayBuffer' with memory, allowed is EpisodeReplayB",
        ),
    ],
)
@pytest.mark.parametrize("layer", ["stpn", "use_lstm"])
def test_what_takes_no_sequences_is_refused(settings, message, layer):
    with pytest.raises(UsageError, match=message):
        config_of(layer, **settings)


def test_the_buffer_of_sequences_keeps_its_capacity():
    capacity = {"replay_buffer_config": {"capacity": 77}}
    of_it = config_of("stpn", **capacity).replay_buffer_config
    assert (of_it["type"].rpartition(".")[2], of_it["capacity"]) == ("SequenceEpisodeReplayBuffer", 77)


@pytest.mark.parametrize("burn_in", [0, 1, 3])
def test_the_burn_in_is_left_out_unless_the_episode_begins_there(burn_in):
    runner = EpisodeEnvRunner(config=config_of("stpn"), worker_index=0)
    buffer = SequenceEpisodeReplayBuffer(capacity=1000, burn_in_len=burn_in)
    buffer.add(runner.sample(num_episodes=12, explore=True))
    drawn = buffer.sample(num_items=300, n_step=1, batch_length_T=LENGTH, lookback=1, sample_episodes=True)
    assert len({episode.id_ for episode in drawn}) == len(drawn)
    whole = {episode.id_: episode for episode in buffer.episodes}
    for episode in drawn:
        of = whole[episode.id_.partition("/")[0]]
        ends = episode.t == of.t
        assert (episode.is_terminated, episode.is_truncated) == (ends and of.is_terminated, ends and of.is_truncated)
    assert {episode.t_started for episode in drawn} & set(range(1, burn_in + 1)) == set()
    weights = [episode.get_extra_model_outputs("weights") for episode in drawn]
    for episode, its_weights in zip(drawn, weights, strict=True):
        left_out = min(burn_in, len(episode)) if episode.t_started else 0
        assert (its_weights > 0).tolist() == [False] * left_out + [True] * (len(episode) - left_out)
    weights = np.concatenate(weights)
    assert weights.mean() == pytest.approx(1.0)
    assert len(set(weights[weights > 0])) == 1


@pytest.mark.parametrize(
    "steps, allowed",
    [(4, "less than max_seq_len, 4"), (-1, "a whole number of at least 0"), (1.5, "a whole number of at least 0")],
)
def test_a_burn_in_leaves_steps_to_learn_from(steps, allowed):
    for settings in ({"burn_in_len": steps}, {"burn_in_len": 0, "replay_buffer_config": {"burn_in_len": steps}}):
        with pytest.raises(UsageError, match=f"burn_in_len: got {steps}, allowed is {allowed}"):
            config_of("stpn", **settings)
    buffer = SequenceEpisodeReplayBuffer(capacity=1000, burn_in_len=steps)
    buffer.add(EpisodeEnvRunner(config=config_of("stpn"), worker_index=0).sample(num_episodes=3, explore=True))
    with pytest.raises(UsageError, match=f"burn_in_len: got {steps}, allowed is {allowed}"):
        buffer.sample(num_items=1, n_step=1, batch_length_T=LENGTH, lookback=1, sample_episodes=True)


def test_without_memory_it_stays_rllibs():
    config = config_of("stpn", model={"fcnet_hiddens": [4]})
    assert config._rl_module_spec is None
    assert config.replay_buffer_config["type"] == "PrioritizedEpisodeReplayBuffer"


@pytest.mark.parametrize("layer", ["stpn", "mlp", "use_lstm"])
def test_it_learns_and_its_agent_is_loaded(layer, ray_session, tmp_path):
    config = config_of(layer, env="CartPole-v1", evaluation_interval=1, evaluation_duration=1)
    assert check(config, prepared=True, known={}) == []
    agent = trained_agent(config, tmp_path, iterations=2)
    assert isinstance(agent.module, MemoryQModule)
    for explore in (False, True):
        assert len(rllib_stpn.evaluate(agent, episodes=2, explore=explore).returns) == 2
    assert agent.module.epsilon_schedule.get_current_value() > 0  # random actions are drawn within the module
    together = rllib_stpn.evaluate(agent, episodes=5, seed=1, explore=True).returns
    assert list(together) == list(rllib_stpn.evaluate(agent, episodes=5, seed=1, explore=True, num_envs=1).returns)
