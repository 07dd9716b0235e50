"""The batched EnvRunner against slow, obvious computations and against RLlib's own runner."""

import gymnasium as gym
import numpy as np
import pytest
import torch
from ray.rllib.algorithms.ppo import PPOConfig
from ray.rllib.callbacks.callbacks import RLlibCallback
from ray.rllib.core import DEFAULT_MODULE_ID
from ray.rllib.core.columns import Columns
from ray.rllib.env.single_agent_env_runner import SingleAgentEnvRunner
from ray.rllib.utils.minibatch_utils import ShardEpisodesIterator
from ray.tune.registry import register_env

from rllib_stpn.algorithms import A2CConfig
from rllib_stpn.errors import UsageError
from rllib_stpn.kernels import num_threads
from rllib_stpn.models import MemoryRLModule, recurrent_spec
from rllib_stpn.rollouts import BatchedEnvRunner, NonFiniteObservationError, use_batched_rollouts
from rllib_stpn.rollouts.fragment import Fragment
from rllib_stpn.rollouts.learner_connector import FragmentsToBatch
from tests.rollouts.scripted_env import ScriptedEnv, make_scripted

pytestmark = pytest.mark.usefixtures("ray_session")
MODES = ["sync", "NextStep", "SameStep", "Disabled"]
NUM_ENVS = 5


def runner_config(layer="lstm", mode="sync", steps=10, max_seq_len=10, **env_config):
    register_env("scripted", make_scripted)
    env_config = {**env_config, **({} if mode == "sync" else {"autoreset": mode})}
    return (
        use_batched_rollouts(PPOConfig())
        .environment("scripted", env_config=env_config)
        .env_runners(
            num_env_runners=0,
            num_envs_per_env_runner=NUM_ENVS,
            rollout_fragment_length=steps,
            gym_env_vectorize_mode="sync" if mode == "sync" else "vector_entry_point",
        )
        .training(gamma=0.9, lambda_=0.8)
        .rl_module(rl_module_spec=recurrent_spec(layer, hidden_size=6, max_seq_len=max_seq_len))
        .debugging(seed=5)
    )


def make_runner(config):
    runner = BatchedEnvRunner(config=config, worker_index=0)
    with torch.no_grad():  # larger weights, so that values and memory matter
        for parameter in runner.module.parameters():
            parameter.mul_(3.0)
    return runner


def value_along(module, observations):
    """Values of one episode's observations, computed step by step from the initial state."""
    values, state = [], {k: v[None] for k, v in module.get_initial_state().items()} or None
    for observation in observations:
        obs = torch.from_numpy(observation)[None]
        batch = {Columns.OBS: obs if state is None else obs[:, None]}
        if state is not None:
            batch[Columns.STATE_IN] = state
        with torch.no_grad():
            outputs = module.forward_rollout(batch)
        state = outputs.get(Columns.STATE_OUT)
        values.append(float(outputs[Columns.VF_PREDS].reshape(())))
    return np.array(values)


def expected_steps(module, number, actions_of, gamma, lambda_, fragment_ends, bootstrap_truncated=True):
    """Every step of one environment as (episode, t, advantage, value target), by explicit sums.

    ``fragment_ends`` are counts of steps after which a fragment was cut.
    """
    env = ScriptedEnv(number)
    steps, episode, taken = [], 0, 0
    last = fragment_ends[-1]
    while taken < last:
        length = env.length(episode)
        values = value_along(module, [env.observation(episode, t) for t in range(length + 1)])
        rewards = [
            env.reward(episode, t + 1, actions_of[taken + t]) if taken + t < last else 0.0 for t in range(length)
        ]
        if env.terminates(episode) or not bootstrap_truncated:
            values[length] = 0.0
        for t in range(min(length, last - taken)):
            # Sum of (gamma lambda)^k delta_{t+k} up to the episode's end or the fragment's, whichever comes first.
            end = min([length, *[cut - taken for cut in fragment_ends if cut > taken + t]])
            deltas = [rewards[k] + gamma * values[k + 1] - values[k] for k in range(t, end)]
            advantage = sum((gamma * lambda_) ** k * delta for k, delta in enumerate(deltas))
            steps.append((episode, t, advantage, advantage + values[t]))
        taken += length
        episode += 1
    return steps


@pytest.mark.parametrize("layer", ["lstm", "mlp", "stpn"])
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("bootstrap_truncated", [True, False], ids=["bootstrap", "monte-carlo"])
def test_advantages_equal_explicit_sums_over_three_fragments(layer, mode, bootstrap_truncated):
    config = use_batched_rollouts(runner_config(layer, mode), bootstrap_truncated=bootstrap_truncated)
    runner = make_runner(config)
    fragments = [runner.sample()[0] for _ in range(3)]
    for number in range(NUM_ENVS):
        rows = [f.mask[number] for f in fragments]
        cuts = np.cumsum([row.sum() for row in rows])

        def column(name, number=number, rows=rows):
            return np.concatenate([f.columns[name][number][row] for f, row in zip(fragments, rows, strict=True)])

        expected = expected_steps(runner.module, number, column("actions"), 0.9, 0.8, list(cuts), bootstrap_truncated)
        env = ScriptedEnv(number)
        np.testing.assert_allclose(column("obs"), [env.observation(e, t) for e, t, _, _ in expected])
        np.testing.assert_array_equal(
            np.concatenate([f.is_first[number][row] for f, row in zip(fragments, rows, strict=True)]),
            [t == 0 for _, t, _, _ in expected],
        )
        np.testing.assert_allclose(column("advantages"), [a for *_, a, _ in expected], rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(column("value_targets"), [v for *_, v in expected], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("mode", MODES)
def test_at_least_the_asked_steps_come_back(mode):
    runner = make_runner(runner_config(mode=mode))
    for _ in range(3):
        assert len(runner.sample()[0]) >= 10 * NUM_ENVS


@pytest.mark.parametrize("layer", ["lstm", "stpn", "mlp"])
@pytest.mark.parametrize("max_seq_len", [10, 4, 3])
@pytest.mark.parametrize("mode", ["sync", "SameStep"])
def test_learner_recomputes_the_rollouts_log_probabilities(layer, max_seq_len, mode):
    """Start states, sequence cuts and resets inside sequences all have to be right for this."""
    runner = make_runner(runner_config(layer, mode, max_seq_len=max_seq_len))
    fragments = [runner.sample()[0], runner.sample()[0]]
    batch = to_batch(runner.module, fragments)
    outputs = runner.module.forward_train(batch)
    distribution = runner.module.get_train_action_dist_cls().from_logits(outputs[Columns.ACTION_DIST_INPUTS])
    mask = batch.get(Columns.LOSS_MASK, torch.ones_like(batch["advantages"], dtype=torch.bool))
    assert int(mask.sum()) == sum(len(f) for f in fragments)
    difference = (distribution.logp(batch[Columns.ACTIONS]) - batch[Columns.ACTION_LOGP])[mask].abs()
    assert difference.max() < 1e-5
    if layer != "mlp":
        assert batch["is_first"].shape[1] <= max_seq_len + 4
        shifted = dict(batch, is_first=batch["is_first"].roll(1, dims=1))
        wrong = runner.module.forward_train(shifted)[Columns.ACTION_DIST_INPUTS]
        assert (wrong - outputs[Columns.ACTION_DIST_INPUTS]).abs().max() > 1e-2


def to_batch(module, fragments):
    return FragmentsToBatch()(rl_module={DEFAULT_MODULE_ID: module}, batch={}, episodes=fragments)[DEFAULT_MODULE_ID]


class TupleOfSpaces:
    discrete = gym.spaces.Discrete(3)
    multi_discrete = gym.spaces.MultiDiscrete([3, 2, 4])
    box = gym.spaces.Box(np.array([-2.0, 0.0], np.float32), np.array([2.0, 5.0], np.float32))


@pytest.mark.parametrize("explore", [False, True], ids=["greedy", "sampled"])
@pytest.mark.parametrize("space", ["discrete", "multi_discrete", "box"])
@pytest.mark.parametrize("layer", ["lstm", "stpn", "mlp"])
@pytest.mark.parametrize("shared", [True, False], ids=["shared", "separate"])
def test_actions_equal_the_stock_runners(layer, space, explore, shared):
    config = runner_config(layer, action_space=getattr(TupleOfSpaces, space))
    config.rl_module(
        rl_module_spec=recurrent_spec(layer, hidden_size=6, max_seq_len=10, vf_share_layers=shared)
    ).env_runners(num_envs_per_env_runner=1)
    batched = make_runner(config)
    stock = SingleAgentEnvRunner(config=config.copy(copy_frozen=False), worker_index=0)
    stock.module.load_state_dict(batched.module.state_dict(), strict=False)
    torch.manual_seed(5)
    fragment = batched.sample(num_timesteps=30, explore=explore)[0]
    torch.manual_seed(5)
    episodes = sorted(stock.sample(num_timesteps=30, explore=explore), key=lambda e: e.observations[0][0])
    by_start = {tuple(e.get_observations(0)): e for e in episodes}
    starts = np.flatnonzero(fragment.is_first[0])
    for start, stop in zip(starts, [*starts[1:], fragment.mask.shape[1]], strict=True):
        episode = by_start[tuple(fragment.columns["obs"][0, start])]
        kept = fragment.mask[0, start:stop]
        actions = fragment.columns["actions"][0, start:stop][kept]
        np.testing.assert_allclose(actions, episode.get_actions(), rtol=1e-5, atol=1e-6)


def test_random_actions_reach_the_environment_as_they_are():
    runner = make_runner(runner_config("mlp", action_space=TupleOfSpaces.box))
    seen = []
    step = runner.env.step
    runner.env.step = lambda actions: (seen.append(actions), step(actions))[1]
    fragment = runner.sample(num_timesteps=10, random_actions=True)[0]
    np.testing.assert_array_equal(seen[0], fragment.columns["actions"][:, 0])


def test_continuous_actions_reach_the_environment_unsquashed():
    runner = make_runner(runner_config("mlp", action_space=TupleOfSpaces.box))
    seen = []
    step = runner.env.step
    runner.env.step = lambda actions: (seen.append(actions), step(actions))[1]
    fragment = runner.sample()[0]
    raw = fragment.columns["actions"][:, 0]
    low, high = TupleOfSpaces.box.low, TupleOfSpaces.box.high
    np.testing.assert_allclose(seen[0], np.clip(low + (raw + 1) * (high - low) / 2, low, high), rtol=1e-6)


def test_sample_takes_episodes_and_forced_resets():
    runner = make_runner(runner_config(mode="SameStep"))
    fragment = runner.sample(num_episodes=7)[0]
    assert runner.get_metrics()["num_episodes"].peek() >= 7
    # Only finished episodes count, so every row's last counted step ends one.
    assert len(fragment) < fragment.mask.size
    runner.sample()
    runner.sample(num_timesteps=10)
    assert runner.sample(force_reset=True)[0].is_first[:, 0].all()
    assert len(runner.sample(num_timesteps=10, random_actions=True)[0]) == 10


def test_metrics_have_rllibs_names_and_values():
    runner = make_runner(runner_config("mlp", steps=40))
    runner.sample()
    metrics = runner.get_metrics()
    fragment = runner.sample()[0]
    assert {
        "episode_return_mean",
        "episode_len_mean",
        "num_env_steps_sampled_lifetime",
        "num_episodes",
    } <= set(metrics)
    assert runner.get_metrics()["num_env_steps_sampled"].peek() == len(fragment)


def test_means_are_over_the_last_episodes_even_if_few_ended_in_this_iteration():
    runner = make_runner(runner_config("mlp", mode="SameStep", steps=4).reporting(metrics_num_episodes_for_smoothing=5))
    ends = sorted(
        (sum(ScriptedEnv(number).length(k) for k in range(episode + 1)), number, episode)
        for number in range(NUM_ENVS)
        for episode in range(20)
    )
    for iteration in range(1, 8):
        runner.sample()
        ended = [(number, episode) for end, number, episode in ends if end <= 4 * iteration]
        lengths = [ScriptedEnv(number).length(episode) for number, episode in ended[-5:]]
        metrics = runner.get_metrics()
        assert metrics["episode_len_mean"].peek() == pytest.approx(np.mean(lengths))
        assert metrics["episode_len_min"].peek() == min(lengths)
        assert metrics["episode_len_max"].peek() == max(lengths)
        returns = [metrics[f"episode_return_{which}"].peek() for which in ("min", "mean", "max")]
        assert returns == sorted(returns)


def test_a_runner_that_trains_reports_an_evaluation_by_itself():
    """As `algo.evaluate()` does where there are no env runners for evaluation."""
    runner = make_runner(runner_config("mlp", mode="SameStep", steps=30))
    runner.sample()
    longest = runner.get_metrics()["episode_len_max"].peek()
    soonest = min(ScriptedEnv(number).length(env.episode + 1) for number, env in enumerate(runner.env.envs))
    runner.sample(num_episodes=1)
    assert runner.get_metrics()["episode_len_max"].peek() == soonest < longest
    runner.sample(num_timesteps=NUM_ENVS)
    assert runner.get_metrics()["episode_len_max"].peek() == longest


def test_an_evaluation_is_over_all_its_episodes():
    config = (
        runner_config("mlp", mode="SameStep").reporting(metrics_num_episodes_for_smoothing=2).copy(copy_frozen=False)
    )
    config.in_evaluation = True
    runner = make_runner(config)
    runner.sample(num_episodes=40)
    lengths = [
        ScriptedEnv(number).length(episode)
        for number, env in enumerate(runner.env.envs)
        for episode in range(env.episode)
    ]
    metrics = runner.get_metrics()
    assert len(lengths) >= 40
    assert metrics["episode_len_mean"].peek() == pytest.approx(np.mean(lengths))
    assert metrics["episode_len_max"].peek() == max(lengths)


class ActsItsOwnWay(MemoryRLModule):
    """The last action, and a value of 7."""

    def _forward(self, batch, **kwargs):
        outputs = super()._forward(batch, **kwargs)
        logits = torch.zeros_like(outputs[Columns.ACTION_DIST_INPUTS])
        logits[..., -1] = 50.0
        return {**outputs, Columns.ACTION_DIST_INPUTS: logits}

    def compute_values(self, batch, embeddings=None):
        return super().compute_values(batch, embeddings) * 0 + 7.0


class ExploresItsOwnWay(ActsItsOwnWay):
    def _forward_exploration(self, batch, **kwargs):
        return super()._forward(batch)


@pytest.mark.parametrize("layer", ["lstm", "mlp"])
@pytest.mark.parametrize("kind", [ActsItsOwnWay, ExploresItsOwnWay])
def test_a_modules_own_way_to_act_is_taken(kind, layer):
    config = runner_config(layer)
    spec = recurrent_spec(layer, hidden_size=6, max_seq_len=10)
    spec.module_class = kind
    runner = BatchedEnvRunner(config=config.rl_module(rl_module_spec=spec), worker_index=0)
    for explore in (False, True):
        (fragment,) = runner.sample(num_timesteps=30, explore=explore)
        assert (fragment.columns["actions"] == 2).all()
        values = fragment.columns["value_targets"] - fragment.columns["advantages"]
        np.testing.assert_allclose(values, 7.0, rtol=1e-5)


@pytest.mark.parametrize("images", [False, True])
def test_small_models_act_on_one_thread_of_torch(images):
    config = runner_config()
    if images:
        config.environment("stpn_envs:stpn/Atari-v0", env_config={"game": "pong"}).rl_module(
            rl_module_spec=recurrent_spec("lstm", hidden_size=4, conv_filters=[[2, 8, 8]], max_seq_len=10)
        )
    runner, seen, before = BatchedEnvRunner(config=config, worker_index=0), set(), torch.get_num_threads()
    runner.module.encoder.register_forward_hook(lambda *_: seen.add((torch.get_num_threads(), num_threads())))
    try:
        torch.set_num_threads(2)
        runner.sample(num_timesteps=NUM_ENVS * 2)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
        runner.stop()
    assert seen == {(2 if images else 1, 2)}


def test_fragments_are_cut_by_whole_environments():
    fragment = make_runner(runner_config(mode="SameStep")).sample()[0]
    for learners in (2, 3, 5):
        shards = list(ShardEpisodesIterator([fragment], num_shards=learners))
        assert [len(shard) > 0 for shard in shards] == [True] * learners
        pieces = [piece for shard in shards for piece in shard if len(piece)]
        assert sum(len(piece) for piece in pieces) == len(fragment)
        assert all(piece.mask.shape[1] == 10 for piece in pieces)
        joined = np.concatenate([piece.columns["advantages"] for piece in pieces])
        assert sorted(joined.ravel()) == sorted(fragment.columns["advantages"].ravel())
    state = fragment[:20].state_in
    assert next(iter(state.values())).shape[0] == 2


@pytest.mark.parametrize("runners", [1, 2])
@pytest.mark.parametrize("environments", range(1, 9))
def test_every_learner_gets_steps_of_an_environment(environments, runners):
    """One without any would keep the others waiting for its gradients."""
    for learners in range(1, runners * environments + 1):
        fragments = [Fragment(np.ones((environments, 20), bool), np.zeros((environments, 20), bool))] * runners
        fragments[0].mask[-1, ::9] = False  # it was only reset there
        shares = [sum(map(len, shard)) for shard in ShardEpisodesIterator(fragments, num_shards=learners)]
        assert min(shares) > 0
        assert sum(shares) == sum(map(len, fragments))


def test_more_learners_than_fragments_are_refused():
    config = runner_config("mlp").training(train_batch_size_per_learner=5).learners(num_learners=NUM_ENVS + 1)
    with pytest.raises(UsageError, match=f"num_learners: got {NUM_ENVS + 1}, allowed are up to {NUM_ENVS} here"):
        make_runner(config)
    make_runner(config.learners(num_learners=NUM_ENVS))
    make_runner(config.training(train_batch_size_per_learner=10).learners(num_learners=2 * NUM_ENVS))  # two samples


class EpisodeLog(RLlibCallback):
    events: list = []

    def on_episode_start(self, *, episode, env_index, **kwargs):
        self.events.append(("start", env_index, 0))

    def on_episode_step(self, *, episode, env_index, **kwargs):
        self.events.append(("step", env_index, len(episode)))

    def on_episode_end(self, *, episode, env_index, prev_episode_chunks, env, rl_module, metrics_logger, **kwargs):
        whole = sum(chunk.get_return() for chunk in prev_episode_chunks) + episode.get_return()
        length = sum(len(chunk) for chunk in prev_episode_chunks) + len(episode)
        self.events.append(("end", env_index, (length, round(whole, 3))))


@pytest.mark.parametrize("mode", MODES)
def test_stock_callbacks_see_every_episode(mode):
    EpisodeLog.events = []
    runner = make_runner(runner_config("lstm", mode).callbacks(EpisodeLog))
    fragments = [runner.sample()[0] for _ in range(2)]
    for number in range(NUM_ENVS):
        env = ScriptedEnv(number)
        ends = [what for kind, index, what in EpisodeLog.events if kind == "end" and index == number]
        assert [length for length, _ in ends] == [env.length(e) for e in range(len(ends))]
        actions = np.concatenate([f.columns["actions"][number][f.mask[number]] for f in fragments])
        t = 0
        for e, (length, total) in enumerate(ends):
            expected = sum(env.reward(e, k + 1, actions[t + k]) for k in range(length))
            assert total == pytest.approx(expected, abs=1e-2)
            t += length
        starts = [1 for kind, index, _ in EpisodeLog.events if kind == "start" and index == number]
        assert len(starts) - len(ends) in (0, 1)
        steps = [1 for kind, index, _ in EpisodeLog.events if kind == "step" and index == number]
        assert len(steps) == sum(int(f.mask[number].sum()) for f in fragments)


class InfoLog(RLlibCallback):
    seen: list = []

    def on_episode_end(self, *, episode, env_index, **kwargs):
        self.seen.append((env_index, episode.get_infos(0), episode.get_infos(-1)))


@pytest.mark.parametrize("mode", MODES)
def test_callbacks_see_the_infos_of_their_own_episode(mode):
    InfoLog.seen = []
    make_runner(runner_config("mlp", mode, steps=30).callbacks(InfoLog)).sample()
    assert InfoLog.seen
    counts = dict.fromkeys(range(NUM_ENVS), 0)
    for index, at_start, at_end in InfoLog.seen:
        episode = counts[index]
        counts[index] += 1
        assert at_start["episode"] == episode
        assert at_start["t"] == 0
        assert (at_end["episode"], at_end["t"]) == (episode, ScriptedEnv(index).length(episode))


def test_complete_episodes_leave_no_row_without_a_counted_step():
    runner = make_runner(runner_config(max_seq_len=3).env_runners(batch_mode="complete_episodes"))
    (fragment,) = runner.sample()
    batch = to_batch(runner.module, [fragment])
    assert (batch[Columns.SEQ_LENS] > 0).all()
    assert int(batch[Columns.SEQ_LENS].sum()) == len(fragment)


@pytest.mark.parametrize("remote", [0, 2], ids=["local", "two-remote"])
@pytest.mark.parametrize("algorithm", [A2CConfig, PPOConfig], ids=["A2C", "PPO"])
def test_an_observation_that_is_not_finite_ends_the_run(algorithm, remote):
    register_env("scripted", make_scripted)
    config = (
        use_batched_rollouts(algorithm())
        .environment("scripted", env_config={"nan_at": 25, "autoreset": "SameStep"})
        .env_runners(
            num_env_runners=remote,
            num_envs_per_env_runner=3,
            rollout_fragment_length=10,
            gym_env_vectorize_mode="vector_entry_point",
        )
        .training(train_batch_size=30 * max(remote, 1))
        .rl_module(rl_module_spec=recurrent_spec("lstm", hidden_size=4, max_seq_len=10))
    )
    if algorithm is PPOConfig:
        config.training(minibatch_size=30, num_epochs=1)
    algo = config.build_algo()
    try:
        with pytest.raises(NonFiniteObservationError, match=r"environment 0 of env runner \d.*step \d+ of its episode"):
            for _ in range(5):
                algo.train()
    finally:
        algo.stop()


def test_runners_have_environments_with_seeds_of_their_own():
    seen = set()
    for worker in (1, 2, 3):
        config = runner_config("mlp", steps=40).environment("stpn_envs:stpn/AssociativeRetrieval-v0", env_config={})
        config.env_runners(gym_env_vectorize_mode="vector_entry_point").debugging(seed=0)
        runner = BatchedEnvRunner(config=config, worker_index=worker)
        fragment = runner.sample(num_timesteps=40 * NUM_ENVS)[0]
        seen |= {row.tobytes() for row in fragment.columns["obs"]}
        runner.stop()
    assert len(seen) == 3 * NUM_ENVS
