"""DQN with memory: sequences from the replay buffer, with the states at which they begin."""

from __future__ import annotations

from typing import Any

import numpy as np
from ray.rllib.algorithms.dqn import DQNConfig
from ray.rllib.core.rl_module.rl_module import RLModuleSpec
from ray.rllib.env.single_agent_episode import SingleAgentEpisode
from ray.rllib.env.utils.infinite_lookback_buffer import InfiniteLookbackBuffer
from ray.rllib.utils.replay_buffers import EpisodeReplayBuffer

from rllib_stpn.algorithms.burn_in import check_burn_in
from rllib_stpn.errors import UsageError
from rllib_stpn.models import LayerQCatalog, MemoryQModule, MemoryRLModule

_DEFAULT_BUFFER = "PrioritizedEpisodeReplayBuffer"


class SequenceEpisodeReplayBuffer(EpisodeReplayBuffer):
    """RLlib's ``EpisodeReplayBuffer``, whose sequences stay apart, with a burn-in that knows where episodes begin.

    RLlib's learner joins what has the same episode's id and cuts it again, so that, behind a short sequence, others of
    the same episode begin at wrong steps, with states of other steps. Here each has an id of its own.

    RLlib's burn-in leaves out the first steps of every sequence, so that nothing is learned at the beginning of an
    episode. Here it leaves out those of sequences that begin later. A sequence that would begin within the burn-in of
    its episode begins with the episode, whose state is known. What is left out has the weight 0 in the loss.

    Args:
        burn_in_len: Steps that are left out.
        **kwargs: RLlib's.
    """

    def __init__(self, *args: Any, burn_in_len: int = 0, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._burn_in = burn_in_len

    def sample(self, *args: Any, **kwargs: Any) -> Any:
        """RLlib's sample; of sequences as episodes, where ``sample_episodes`` and ``batch_length_T`` are given."""
        drawn = super().sample(*args, **kwargs)
        length, lookback = kwargs.get("batch_length_T"), kwargs.get("lookback", 0)
        if not (kwargs.get("sample_episodes") and length):
            return drawn
        check_burn_in("burn_in_len", self._burn_in, length)
        drawn = [self._begun(piece, length, lookback) for piece in drawn]
        counted = [np.arange(len(piece)) >= (self._burn_in if piece.t_started else 0) for piece in drawn]
        scale = sum(map(len, drawn)) / max(1, sum(map(np.sum, counted)))  # the loss is a mean over all steps
        for number, (piece, its_counted) in enumerate(zip(drawn, counted, strict=True)):
            piece.id_ = f"{piece.id_}/{number}"
            weights = np.concatenate([np.zeros(lookback), its_counted * scale])
            piece.extra_model_outputs["weights"] = InfiniteLookbackBuffer(weights, lookback=lookback)
        return drawn

    def _begun(self, piece: SingleAgentEpisode, length: int, lookback: int) -> SingleAgentEpisode:
        """A sequence, or that from the start of its episode where it begins within the burn-in."""
        if not 0 < piece.t_started <= self._burn_in:
            return piece
        whole = self.episodes[self.episode_id_to_index[piece.id_] - self._num_episodes_evicted]
        # RLlib takes a slice that goes beyond the end for one without it.
        begun = whole.slice(slice(0, min(length, len(whole))), len_lookback_buffer=lookback)
        n_step = np.ones(len(begun) + lookback)
        begun.extra_model_outputs["n_step"] = InfiniteLookbackBuffer(n_step, lookback=lookback)
        return begun


# RLlib's algorithm takes the name of a buffer, with this ending, and no class.
_PATH = f"{SequenceEpisodeReplayBuffer.__module__}.{SequenceEpisodeReplayBuffer.__name__}"


def use_recurrent_replay(config: DQNConfig) -> DQNConfig:
    """Lets DQN train a module with memory: one of our layers, or RLlib's LSTM.

    ::

        config = DQNConfig().environment("CartPole-v1").training(burn_in_len=10)
        config.rl_module(rl_module_spec=recurrent_spec("stpn", hidden_size=32, max_seq_len=30))
        config = use_recurrent_replay(config)

    An update gets sequences of ``max_seq_len`` steps, each with the state that the env runner recorded in front of it,
    about ``train_batch_size_per_learner`` steps in all. The first ``burn_in_len`` steps of each bring that state up to
    date and do not count, unless the episode begins there. A :class:`SequenceEpisodeReplayBuffer` keeps the state of
    every step, and draws from all steps with the same chance.

    Args:
        config: With the module's spec, or ``model_config={"use_lstm": True}``. Changed in place.

    Returns:
        ``config``.

    Raises:
        UsageError: Settings of which RLlib's loss or buffer have no form for sequences, or a burn-in that leaves
            nothing of them.
    """
    if config.n_step != 1:
        raise _refused("n_step", config.n_step, "1: RLlib draws no sequences with returns of several steps")
    if config.num_atoms != 1:
        raise _refused("num_atoms", config.num_atoms, "1: RLlib's distributional loss takes no sequences")
    buffer = dict(config.replay_buffer_config)
    burn_in = config.burn_in_len or buffer.get("burn_in_len", 0)
    kind = str(getattr(buffer["type"], "__name__", buffer["type"])).rpartition(".")[2]
    if kind == _DEFAULT_BUFFER:
        buffer = {"capacity": buffer["capacity"]}
    elif kind not in ("EpisodeReplayBuffer", SequenceEpisodeReplayBuffer.__name__):
        raise refused_buffer(kind)
    config.replay_buffer_config = {**buffer, "type": _PATH, "burn_in_len": burn_in}
    config.burn_in_len = 0  # RLlib's own
    spec: Any = config._rl_module_spec
    if spec is None:
        config.rl_module(rl_module_spec=RLModuleSpec(module_class=MemoryQModule))
    elif spec.module_class is MemoryRLModule:
        spec.module_class, spec.catalog_class = MemoryQModule, LayerQCatalog
        # RLlib's algorithm looks for the length of sequences beside the spec.
        config.rl_module(model_config={**config._model_config, "max_seq_len": spec.model_config["max_seq_len"]})
    check_burn_in("burn_in_len", burn_in, config.model_config.get("max_seq_len"))
    return config


def refused_buffer(kind: str) -> UsageError:
    """The error for a replay buffer that draws no sequences."""
    return _refused("replay_buffer_config: type", kind, "EpisodeReplayBuffer, which draws sequences")


def _refused(where: str, given: Any, allowed: str) -> UsageError:
    return UsageError(f"{where}: got {given!r} with memory, allowed is {allowed}")
