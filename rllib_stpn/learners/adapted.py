"""Learners whose checkpoints hold coefficients that change in training; RLlib leaves these out."""

from __future__ import annotations

import functools
from typing import Any

import torch
from ray.rllib.core.learner.learner import Learner
from ray.rllib.utils.schedules.scheduler import Scheduler

from rllib_stpn.learners.finite import RefusesNonFiniteGradients

_ADAPTED = (
    "curr_kl_coeffs_per_module",  # PPO's and APPO's
    "entropy_coeff_schedulers_per_module",  # PPO's, IMPALA's and APPO's
    "_entropy_coeffs",  # A2C's
    "curr_log_alpha",  # SAC's, and of what builds on it
    "moving_avg_sqd_adv_norms_per_module",  # MARWIL's
    "last_update_ts_by_mid",  # of target networks: DQN's and SAC's
    "_last_update_ts_by_mid",  # APPO's
)
_STATE = "adapted"


class KeepsWhatItAdapts(Learner):
    """Saves and restores what a learner adapts beside weights and optimisers.

    These are numbers for each module: PPO's KL coefficient, SAC's temperature, when target networks were last updated,
    and so on. RLlib's own learners start again from the config's. In a list of bases this class comes first.
    """

    def get_state(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """RLlib's state of a learner, and what it adapts under ``"adapted"``."""
        modules = set(self.module.keys())
        numbers = {
            name: {module_id: _number(getattr(self, name)[module_id]) for module_id in modules}
            for name in _ADAPTED
            if hasattr(self, name)
        }
        return {**super().get_state(*args, **kwargs), _STATE: numbers}

    def set_state(self, state: dict[str, Any]) -> None:
        """Takes a state of this learner or, without what is adapted, of RLlib's."""
        super().set_state(state)
        modules = set(self.module.keys())
        for name, numbers in state.get(_STATE, {}).items():
            of_modules = getattr(self, name, None)
            for module_id, number in numbers.items():
                if of_modules is not None and module_id in modules:
                    of_modules[module_id] = _with_number(of_modules[module_id], number)


@functools.cache
def reliable_learner(learner_class: type[Learner]) -> type[Learner]:
    """A subclass of a learner that keeps what it adapts and refuses gradients that are not finite.

    A learner that does both already stays as it is.
    """
    ours = (KeepsWhatItAdapts, RefusesNonFiniteGradients)
    added = tuple(each for each in ours if not issubclass(learner_class, each))
    if not added:
        return learner_class
    # RLlib builds learners from a class, which is each algorithm's own, or the user's: so each has a subclass.
    return type(learner_class.__name__, (*added, learner_class), {"__doc__": learner_class.__doc__})


def _number(value: Any) -> Any:
    value = value.get_current_value() if isinstance(value, Scheduler) else value
    return value.tolist() if isinstance(value, torch.Tensor) else value


def _with_number(value: Any, number: Any) -> Any:
    """A tensor (an optimiser may hold it) or schedule, set in place to a number; for anything else the number."""
    if isinstance(value, Scheduler):
        if value.use_schedule:  # a fixed value is the config's
            value._curr_value = _with_number(value._curr_value, number)
        return value
    if isinstance(value, torch.Tensor):
        value.data.copy_(torch.as_tensor(number, dtype=value.dtype))
        return value
    return number
