"""An algorithm that RLlib lacks, and what some of RLlib's need for memory."""

from rllib_stpn.algorithms.a2c import A2C, A2CConfig
from rllib_stpn.algorithms.recurrent_replay import use_recurrent_replay
from rllib_stpn.algorithms.whole_episodes import WholeEpisodes

__all__ = ["A2C", "A2CConfig", "WholeEpisodes", "use_recurrent_replay"]
