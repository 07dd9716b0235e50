"""RLlib's EnvRunner of several agents, whose memory goes on from one sample to the next."""

from __future__ import annotations

from typing import Any

import numpy as np
import tree
from ray.rllib.core.columns import Columns
from ray.rllib.env.multi_agent_env_runner import MultiAgentEnvRunner
from ray.rllib.env.utils.infinite_lookback_buffer import InfiniteLookbackBuffer

from rllib_stpn.rollouts.episode_runner import check_output


class ManyAgentsEnvRunner(MultiAgentEnvRunner):
    """RLlib's ``MultiAgentEnvRunner`` for agents with memory that do not act at every step.

    Where a sample ends inside an episode, RLlib takes along the states of the environment's last steps only. The next
    sample of an agent that did not act in these begins without the state in front of it: RLlib's learner fails with an
    ``IndexError``, or begins with another state. Here each sample has the state in front of its first step.

    RLlib seeds the environment before each sample of whole episodes, which would all begin alike. Here it is seeded as
    it is made, and its own generator goes on from there; evaluations begin alike, as RLlib's do.

    ::

        config.env_runners(env_runner_cls=ManyAgentsEnvRunner)
    """

    without_output = "ManyAgentsEnvRunner records nothing, and RLlib records no several agents"

    def __init__(self, config: Any, **kwargs: Any) -> None:
        check_output(config, type(self))
        self._states: dict[tuple[str, Any], Any] = {}  # after the last step of each agent in a running episode
        super().__init__(config=config, **kwargs)

    def make_env(self) -> None:
        """RLlib's environments."""
        super().make_env()
        self._were_reset = False

    def _try_env_reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        goes_on = self._were_reset and not self.config.in_evaluation
        result = super()._try_env_reset(seed=None if goes_on else seed, options=options)
        self._were_reset = True
        return result

    def sample(self, **arguments: Any) -> Any:
        """RLlib's sample, in which each agent's steps have the state in front of them."""
        samples = super().sample(**arguments)
        for whole in samples:
            for agent, episode in whole.agent_episodes.items():
                states = episode.extra_model_outputs.get(Columns.STATE_OUT)
                if states is None or not len(states):
                    continue
                before = self._states.get((whole.id_, agent))
                if before is not None and not states.lookback:
                    _put_in_front(states, before)
                self._states[whole.id_, agent] = states[-1]
        running = {episode.id_ for episode in samples if not episode.is_done}
        self._states = {key: state for key, state in self._states.items() if key[0] in running}
        return samples


def _put_in_front(states: InfiniteLookbackBuffer, before: Any) -> None:
    if states.finalized:
        states.data = tree.map_structure(lambda row, rows: np.concatenate([row[None], rows]), before, states.data)
    else:
        states.data.insert(0, before)
    states.lookback = 1
