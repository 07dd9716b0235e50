"""Filters that have the statistics of all that was seen, on one env runner or several."""

import numpy as np
import pytest
from gymnasium import spaces
from ray.rllib.connectors.env_to_module import EnvToModulePipeline
from ray.rllib.connectors.env_to_module import MeanStdFilter as RLlibMeanStdFilter
from ray.rllib.env.single_agent_episode import SingleAgentEpisode

from rllib_stpn.rollouts import FlatObservations, MeanStdFilter
from rllib_stpn.rollouts.connectors import observation_transforms

SPACE = spaces.Box(-np.inf, np.inf, (2,), np.float64)
NESTED = spaces.Dict({"a": SPACE})


def pipeline(*connectors, space=SPACE):
    return EnvToModulePipeline(
        input_observation_space=space, input_action_space=spaces.Discrete(2), connectors=list(connectors)
    )


def seen_batched(pieces, observations):
    transforms = observation_transforms(pieces)
    for begin in range(0, len(observations), 4):
        batch = observations[begin : begin + 4]
        batch = {"a": batch} if pieces.input_observation_space is NESTED else batch
        for transform in transforms:
            batch = transform(batch)


def seen_by_episode(pieces, observations):
    for observation in observations:
        given = {"a": observation} if pieces.input_observation_space is NESTED else observation
        episode = SingleAgentEpisode(observations=[given])
        for piece in pieces.connectors:
            piece(rl_module=None, batch={}, episodes=[episode], explore=True, shared_data={})


RUNNERS = {"batched": seen_batched, "single_agent": seen_by_episode}


@pytest.mark.parametrize("space", [SPACE, NESTED], ids=["box", "dict"])
@pytest.mark.parametrize("remote", [0, 1, 2])
@pytest.mark.parametrize("runner", RUNNERS)
def test_statistics_are_those_of_all_that_was_seen(runner, remote, space):
    """In every iteration, with a mean far beyond the deviation, as RLlib merges env runners' connectors."""
    rng = np.random.default_rng(0)

    def made():
        return pipeline(*([FlatObservations()] if space is NESTED else []), MeanStdFilter(), space=space)

    local, runners, everything = made(), [made() for _ in range(remote)], []
    for _ in range(4):
        for each in runners or [local]:
            observations = 1e4 + rng.normal(size=(13, 2)) * [3.0, 0.5]
            everything.append(observations)
            RUNNERS[runner](each, observations)
        if runners:
            merged = local.merge_states([each.get_state() for each in runners])
            for each in (local, *runners):
                each.set_state(merged)
        for each in (local, *runners):
            (filter_,) = each.connectors[-1]._filters.values()
            stats = filter_.running_stats
            assert stats.num_pushes == 13 * len(everything)
            seen = np.concatenate(everything)
            seen = seen.astype(np.float32) if space is NESTED else seen  # flat observations are of float32
            np.testing.assert_allclose(stats.mean, seen.astype(np.float64).mean(0), rtol=1e-10)
            np.testing.assert_allclose(stats.std, seen.astype(np.float64).std(0, ddof=1), rtol=1e-5)


def test_a_restored_filter_counts_nothing_twice():
    first = pipeline(MeanStdFilter())
    seen_batched(first, np.full((8, 2), 50.0))
    local, remote = pipeline(MeanStdFilter()), pipeline(MeanStdFilter())
    local.set_state(first.get_state())
    remote.set_state(local.get_state())
    seen_batched(remote, np.full((4, 2), 50.0))
    local.merge_states([remote.get_state()])
    (filter_,) = local.connectors[-1]._filters.values()
    assert filter_.running_stats.num_pushes == 12


def test_rllibs_own_filter_merges_right_on_batched_rollouts():
    local, remote = pipeline(RLlibMeanStdFilter()), pipeline(RLlibMeanStdFilter())
    data = 1000 + np.random.default_rng(0).normal(size=(30, 2))
    for part in (data[:20], data[20:]):
        seen_batched(remote, part)
        remote.set_state(local.merge_states([remote.get_state()]))
    (filter_,) = local.connectors[-1]._filters.values()
    np.testing.assert_allclose(filter_.running_stats.mean, data.mean(0), rtol=1e-10)
    np.testing.assert_allclose(filter_.running_stats.std, data.std(0, ddof=1), rtol=1e-5)
