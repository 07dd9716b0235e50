"""Learners that take no step from gradients which are not finite, and say so."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import torch
from ray.rllib.core.learner.learner import Learner

from rllib_stpn.errors import NonFiniteError


class RefusesNonFiniteGradients(Learner):
    """Ends an update with an error where a gradient is NaN or infinite, or its norm is; no weight has changed by it.

    RLlib's learners put 0 for NaN and 3.4e38 for infinity, with a warning: Adam's variance is infinite from then on,
    and these weights never change again. With ``torch_skip_nan_gradients`` RLlib leaves such steps out, and so it does
    here. In a list of bases this class comes before RLlib's learners.
    """

    _refused: str | None = None

    def refuse(self, gradients: Iterable[torch.Tensor | None]) -> bool:
        """Whether these gradients are refused, with which the update under way, or the next, ends."""
        given = [each for each in gradients if each is not None]
        if not given or self.config.torch_skip_nan_gradients or self._grad_scalers is not None:
            return False
        if math.isfinite(torch.stack(torch._foreach_norm(given)).norm().item()):
            return False
        self._refused = "the gradients are not finite, and no weight was changed by them"
        for connector in getattr(self._learner_connector, "connectors", ()):
            if largest := getattr(connector, "largest", None):
                self._refused += f"; the largest observation so far: {largest[0]:g}, of {largest[1]}"
        self._refused += " (a smaller lr or smaller rewards may help; torch_skip_nan_gradients leaves such steps out)"
        return True

    def postprocess_gradients(self, gradients_dict: dict[Any, torch.Tensor]) -> dict[Any, torch.Tensor]:
        """RLlib's, such as clipping, for gradients that are finite."""
        return {} if self.refuse(gradients_dict.values()) else super().postprocess_gradients(gradients_dict)

    def apply_gradients(self, gradients_dict: dict[Any, torch.Tensor]) -> None:
        """RLlib's step, unless the gradients were refused."""
        if self._refused is None:
            super().apply_gradients(gradients_dict)

    def update(self, *args: Any, **kwargs: Any) -> Any:
        """RLlib's update.

        Raises:
            NonFiniteError: Gradients were not finite. IMPALA's and APPO's learners compute them in a thread of their
                own: there, it is raised by the update after.
        """
        result = super().update(*args, **kwargs)
        if self._refused is not None:
            told, self._refused = self._refused, None
            raise NonFiniteError(told)
        return result
