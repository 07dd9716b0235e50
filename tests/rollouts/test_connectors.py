"""The batched connectors equal RLlib's, and what cannot run batched is refused by name."""

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces
from ray.rllib.connectors.connector_v2 import ConnectorV2
from ray.rllib.connectors.env_to_module import (
    EnvToModulePipeline,
    FlattenObservations,
    MeanStdFilter,
    PrevActionsPrevRewards,
)
from ray.rllib.connectors.module_to_env import ModuleToEnvPipeline, NormalizeAndClipActions
from ray.rllib.env.single_agent_episode import SingleAgentEpisode

from rllib_stpn.errors import UsageError
from rllib_stpn.rollouts.connectors import action_transforms, observation_transforms

ACTIONS = spaces.Discrete(2)
OBSERVATIONS = {
    "discrete": spaces.Discrete(5),
    "multi_discrete": spaces.MultiDiscrete([3, 4]),
    "dict": spaces.Dict({"b": spaces.Box(-1, 1, (2, 3)), "a": spaces.Discrete(3)}),
    "tuple": spaces.Tuple([spaces.Box(-1, 1, (2,)), spaces.MultiDiscrete([2, 2])]),
    "image": spaces.Box(0, 1, (2, 2, 1)),
}


def pipeline_of(connector, space):
    return EnvToModulePipeline(input_observation_space=space, input_action_space=ACTIONS, connectors=[connector])


def stock(connector, observations, space):
    """What RLlib's connector makes of each observation, one episode object each."""
    results = []
    for observation in observations:
        episode = SingleAgentEpisode(observations=[observation], observation_space=space)
        connector(rl_module=None, batch={}, episodes=[episode], explore=True, shared_data={})
        results.append(episode.get_observations(-1))
    return np.stack(results)


@pytest.mark.parametrize("kind", OBSERVATIONS)
def test_flattening_equals_rllibs(kind):
    space = OBSERVATIONS[kind]
    space.seed(1)
    samples = [space.sample() for _ in range(6)]
    (transform,) = observation_transforms(pipeline_of(FlattenObservations(), space))
    batch = gym.vector.utils.concatenate(space, samples, gym.vector.utils.create_empty_array(space, 6))
    pipeline = pipeline_of(FlattenObservations(), space)
    np.testing.assert_allclose(transform(batch), stock(pipeline.connectors[0], samples, space))


def test_mean_std_filter_equals_rllibs_step_by_step():
    space = spaces.Box(-10, 10, (3,), np.float64)
    rng = np.random.default_rng(0)
    data = rng.normal(3.0, 2.0, (40, 3))
    ours, theirs = (pipeline_of(MeanStdFilter(), space) for _ in range(2))
    (transform,) = observation_transforms(ours)
    one_by_one = np.concatenate([transform(row[None]) for row in data])
    np.testing.assert_allclose(one_by_one, stock(theirs.connectors[0], data, space), rtol=1e-5, atol=1e-6)
    # A batch leaves the same statistics behind, which RLlib then checkpoints.
    batched = pipeline_of(MeanStdFilter(), space)
    (transform,) = observation_transforms(batched)
    transform(data[:25]), transform(data[25:])
    (a,), (b,) = (p.connectors[0]._filters.values() for p in (batched, theirs))
    np.testing.assert_allclose(a.running_stats.mean, b.running_stats.mean)
    np.testing.assert_allclose(a.running_stats.std, b.running_stats.std, rtol=1e-6)
    restored = pipeline_of(MeanStdFilter(), space)
    restored.set_state(batched.get_state())
    probe = rng.normal(size=(4, 3))
    (again,) = observation_transforms(restored)
    restored.connectors[0]._update_stats = batched.connectors[0]._update_stats = False
    np.testing.assert_allclose(again(probe), transform(probe))


class Doubling(ConnectorV2):
    def __call__(self, *, batch, **kwargs):
        return batch


class BatchedDoubling(Doubling):
    def batched(self, observations):
        return 2 * observations


@pytest.mark.parametrize(
    "connector",
    [Doubling, lambda: PrevActionsPrevRewards(n_prev_actions=1, n_prev_rewards=1)],
    ids=["own", "previous"],
)
def test_a_connector_that_cannot_run_batched_is_refused_by_name(connector):
    piece = connector()
    with pytest.raises(UsageError, match=type(piece).__name__):
        observation_transforms(pipeline_of(piece, OBSERVATIONS["image"]))


def test_what_shows_the_same_as_rllibs_previous_actions_is_named():
    with pytest.raises(UsageError, match="stpn_envs.PreviousActionReward around the environment"):
        observation_transforms(pipeline_of(PrevActionsPrevRewards(), OBSERVATIONS["image"]))


def test_an_own_connector_runs_batched_by_its_method():
    (transform,) = observation_transforms(pipeline_of(BatchedDoubling(), OBSERVATIONS["image"]))
    assert transform(np.array([[1.5]])) == 3.0


@pytest.mark.parametrize("normalize, clip", [(True, False), (False, True), (False, False)])
def test_actions_are_unsquashed_or_clipped_as_rllib_does(normalize, clip):
    box = spaces.Box(np.array([-2.0, 0.0], np.float32), np.array([2.0, 5.0], np.float32))
    piece = NormalizeAndClipActions(normalize_actions=normalize, clip_actions=clip)
    pipeline = ModuleToEnvPipeline(
        input_observation_space=OBSERVATIONS["image"], input_action_space=box, connectors=[piece]
    )
    actions = np.array([[-3.0, 0.5], [0.2, 7.0]], np.float32)
    result = actions
    for transform in action_transforms(pipeline):
        result = transform(result)
    if normalize:
        expected = np.clip(box.low + (actions + 1) * (box.high - box.low) / 2, box.low, box.high)
    else:
        expected = np.clip(actions, box.low, box.high) if clip else actions
    np.testing.assert_allclose(result, expected, rtol=1e-6)
