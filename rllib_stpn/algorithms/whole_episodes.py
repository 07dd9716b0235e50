"""From recorded episodes to batches for BC and MARWIL, each step once."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ray.rllib.algorithms.bc import BCConfig
from ray.rllib.core import DEFAULT_MODULE_ID
from ray.rllib.core.columns import Columns
from ray.rllib.env.single_agent_episode import SingleAgentEpisode
from ray.rllib.offline.offline_prelearner import OfflinePreLearner

from rllib_stpn.algorithms.burn_in import check_burn_in

BURN_IN = "burnin_len"
"""Key of ``learner_config_dict``: steps in front of a sequence that only bring the state up to it."""


class WholeEpisodes(OfflinePreLearner):
    """Prelearner that hands on all steps of recorded episodes, where RLlib's draws ``train_batch_size`` of them.

    RLlib draws once, and learns from these steps for the rest of the training. States of the model that acted are left
    out: a sequence begins with the initial state.

    A sequence that begins inside an episode has ``learner_config_dict["burnin_len"]`` steps in front of those that
    count, so that each step of an episode counts once, with at least so many steps before it or all that there are.
    The config's own ``burnin_len`` stays 0: RLlib's learner leaves out the first steps of every sequence, also where an
    episode begins. MARWIL needs the returns of whole episodes, so its sequences do not overlap; there the config's own
    ``burnin_len`` counts.

    ::

        config.offline_data(input_read_episodes=True, prelearner_class=WholeEpisodes)

    Raises:
        UsageError: A ``burnin_len`` of either place that is no whole number, below 0, or, with memory, no less than
            ``max_seq_len``.
    """

    def __init__(self, *, config: Any, **kwargs: Any) -> None:
        super().__init__(config=config, **kwargs)
        stateful = self._module.is_stateful()
        self._length: Any = self._module[DEFAULT_MODULE_ID].model_config["max_seq_len"] if stateful else None
        check_burn_in(BURN_IN, getattr(config, "burnin_len", 0), self._length)
        self._burn_in = check_burn_in(BURN_IN, config.learner_config_dict.get(BURN_IN, 0), self._length)

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Columns by their flat names, ``[sequences, max_seq_len, ...]`` or, without state, ``[steps, ...]``."""
        self._overlaps: list[int] = []
        columns = super().__call__(batch)
        mask = columns.get(f"{DEFAULT_MODULE_ID}/{Columns.LOSS_MASK}")
        for row, overlap in enumerate(self._overlaps if mask is not None else ()):
            mask[row, :overlap] = False
        return columns

    def _postprocess_and_sample(self, episodes: list[SingleAgentEpisode]) -> list[SingleAgentEpisode]:
        whole = {episode.id_: episode for episode in episodes}  # a recording of RLlib's own has them several times
        for episode in whole.values():
            for key in (Columns.STATE_IN, Columns.STATE_OUT):
                episode.extra_model_outputs.pop(key, None)
            episode.to_numpy()
        if self._length is None or not isinstance(self.config, BCConfig):
            return list(whole.values())
        return [piece for episode in whole.values() for piece in self._sequences(episode)]

    def _sequences(self, episode: SingleAgentEpisode) -> Iterator[SingleAgentEpisode]:
        begin = end = 0
        while end < len(episode):
            self._overlaps.append(end - begin)
            end = min(begin + self._length, len(episode))
            piece = episode[begin:end]
            piece.id_ = f"{episode.id_}/{begin}"  # RLlib joins what has one name
            yield piece
            begin = end - self._burn_in
