"""DQN with memory: sequences from the replay buffer, with the states at which they begin."""

from __future__ import annotations

from typing import Any

from ray.rllib.algorithms.dqn import DQNConfig
from ray.rllib.core.rl_module.rl_module import RLModuleSpec
from ray.rllib.utils.replay_buffers import EpisodeReplayBuffer

from rllib_stpn.errors import UsageError
from rllib_stpn.models import LayerQCatalog, MemoryQModule, MemoryRLModule

_DEFAULT_BUFFER = "PrioritizedEpisodeReplayBuffer"


class SequenceEpisodeReplayBuffer(EpisodeReplayBuffer):
    """RLlib's ``EpisodeReplayBuffer``, whose sequences stay apart.

    RLlib's learner joins what has the same episode's id and cuts it again, so that, behind a short sequence, others of
    the same episode begin at wrong steps, with states of other steps. Here each has an id of its own.

    Raises:
        UsageError: No episode is longer than the burn-in; RLlib's would look for one for ever.
    """

    def sample(self, *args: Any, min_batch_length_T: int = 0, sample_episodes: bool = False, **kwargs: Any) -> Any:
        """Draws sequences with the same chance for each, as RLlib does."""
        if min_batch_length_T and all(len(episode) <= min_batch_length_T for episode in self.episodes):
            raise UsageError(
                f"burn_in_len: got {min_batch_length_T}, and none of the {len(self.episodes)} episodes in the replay "
                "buffer is longer, allowed is less than the steps of an episode"
            )
        drawn = super().sample(*args, min_batch_length_T=min_batch_length_T, sample_episodes=sample_episodes, **kwargs)
        for number, episode in enumerate(drawn if sample_episodes else ()):
            episode.id_ = f"{episode.id_}/{number}"
        return drawn


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
    date and do not count. A :class:`SequenceEpisodeReplayBuffer` keeps the state of every step, and draws all sequences
    with the same chance. An episode has to be longer than ``burn_in_len`` to be drawn from.

    Args:
        config: With the module's spec, or ``model_config={"use_lstm": True}``. Changed in place.

    Returns:
        ``config``.

    Raises:
        UsageError: Settings of which RLlib's loss or buffer have no form for sequences.
    """
    if config.n_step != 1:
        raise _refused("n_step", config.n_step, "1: RLlib draws no sequences with returns of several steps")
    if config.num_atoms != 1:
        raise _refused("num_atoms", config.num_atoms, "1: RLlib's distributional loss takes no sequences")
    buffer = config.replay_buffer_config
    kind = getattr(buffer["type"], "__name__", buffer["type"]).rpartition(".")[2]
    if kind == _DEFAULT_BUFFER:
        config.replay_buffer_config = {"type": _PATH, "capacity": buffer["capacity"]}
    elif kind == "EpisodeReplayBuffer":
        config.replay_buffer_config = {**buffer, "type": _PATH}
    elif kind != SequenceEpisodeReplayBuffer.__name__:
        raise refused_buffer(kind)
    spec: Any = config._rl_module_spec
    if spec is None:
        config.rl_module(rl_module_spec=RLModuleSpec(module_class=MemoryQModule))
    elif spec.module_class is MemoryRLModule:
        spec.module_class, spec.catalog_class = MemoryQModule, LayerQCatalog
        # RLlib's algorithm looks for the length of sequences beside the spec.
        config.rl_module(model_config={**config._model_config, "max_seq_len": spec.model_config["max_seq_len"]})
    return config


def refused_buffer(kind: str) -> UsageError:
    """The error for a replay buffer that draws no sequences."""
    return _refused("replay_buffer_config: type", kind, "EpisodeReplayBuffer, which draws sequences")


def _refused(where: str, given: Any, allowed: str) -> UsageError:
    return UsageError(f"{where}: got {given!r} with memory, allowed is {allowed}")
