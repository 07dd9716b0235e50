"""The seam to RLlib's old API stack: one model for every layer, around the module of the new stack."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import torch
import tree
from ray.rllib.core.columns import Columns
from ray.rllib.core.models.base import ACTOR, CRITIC, ENCODER_OUT
from ray.rllib.models.torch.torch_modelv2 import TorchModelV2
from ray.rllib.policy.view_requirement import ViewRequirement
from torch import nn

from rllib_stpn.errors import UsageError
from rllib_stpn.models.spec import recurrent_spec

_NAMES = {  # in the model dict -> in DefaultModelConfig
    "fcnet_hiddens": "fcnet_hiddens",
    "fcnet_activation": "fcnet_activation",
    "conv_filters": "conv_filters",
    "conv_activation": "conv_activation",
    "post_fcnet_hiddens": "head_fcnet_hiddens",
    "post_fcnet_activation": "head_fcnet_activation",
    "free_log_std": "free_log_std",
    "log_std_clip_param": "log_std_clip_param",
}
OWN_LAYER = "own_layer"
"""The ``custom_model`` of a layer of the user's own: RLlib makes a model of whatever a path names."""

_REFUSED = ("use_lstm", "use_attention", "no_final_linear", "_time_major")


class LayerModel(TorchModelV2, nn.Module):
    """The ``ModelV2`` that ``rllib_stpn.register()`` puts under the name of every layer.

    ::

        rllib_stpn.register()
        config.api_stack(enable_rl_module_and_learner=False, enable_env_runner_and_connector_v2=False)
        config.training(model={"custom_model": "stpn", "custom_model_config": {"hidden_size": 64}, "max_seq_len": 20})

    ``custom_model_config`` holds the layer's options with ``hidden_size`` or ``num_parameters``, and whatever else
    ``recurrent_spec`` takes. A layer of your own is the ``custom_model`` ``"own_layer"``, with its path in
    ``custom_model_config``: ``{"layer": "my_layers.MyLayer", ...}``. What stands around the layer is the model dict's:
    ``fcnet_hiddens``, ``conv_filters``, ``post_fcnet_hiddens``, ``free_log_std``, ... Two defaults need care:

    - ``fcnet_hiddens`` is ``[256, 256]`` on this stack; ``[]`` puts the layer straight on the observation.
    - Policy and value share encoder and state, as with RLlib's own LSTM: PPO itself sets the model
      dict's ``vf_share_layers`` to False, so that this model ignores it. ``vf_share_layers: False`` in
      ``custom_model_config`` separates them.

    Memory: while it samples, this stack keeps the state of every step of a fragment, 82 KB each for STPN with 64
    neurons behind 256 features. RLlib's default puts them all into the train batch, too; this model asks for the one
    that begins each sequence. Measured with fragments and batches of 1,000 steps: 5.6 KB a step in the batch in place
    of 88, and a peak of the process of 685 MiB in place of 1,039. The new stack's batched rollouts keep no other state
    at all.
    """

    view_requirements: dict[str, ViewRequirement]

    def __init__(
        self,
        obs_space: gym.spaces.Box,
        action_space: gym.Space,
        num_outputs: int,
        model_config: dict[str, Any],
        name: str,
        **custom_model_config: Any,
    ):
        nn.Module.__init__(self)
        super().__init__(obs_space, action_space, num_outputs, model_config, name)
        layer = custom_model_config.pop("layer", model_config["custom_model"])
        for key in _REFUSED:
            if model_config.get(key):
                raise UsageError(f"model of {layer}: {key}: got {model_config[key]!r}, allowed is False")
        around = {ours: model_config[theirs] for theirs, ours in _NAMES.items() if theirs in model_config}
        spec = recurrent_spec(layer, **{"max_seq_len": model_config["max_seq_len"], **around, **custom_model_config})
        spec.observation_space, spec.action_space = obs_space, action_space
        self.rl_module = rl_module = spec.build()
        expected = rl_module.get_train_action_dist_cls().required_input_dim(action_space)
        if num_outputs != expected:
            raise UsageError(
                f"model of {layer}: action distribution: got one of {num_outputs} inputs, "
                f"allowed are those of {expected} for {action_space}"
            )
        self._initial_state = rl_module.get_initial_state()
        for index, leaf in enumerate(self.get_initial_state()):
            space = gym.spaces.Box(-1.0, 1.0, tuple(leaf.shape))
            self.view_requirements[f"state_out_{index}"] = ViewRequirement(space=space, used_for_training=False)
        self._observation_key = "obs_flat" if len(obs_space.shape) == 1 else "obs"
        self._values: torch.Tensor | None = None

    def get_initial_state(self) -> list[torch.Tensor]:
        """Zeros for one sequence, the state's tensors in the order of their names."""
        return tree.flatten(self._initial_state)

    def forward(self, input_dict, state, seq_lens):
        """Runs padded sequences, ``[B * T, ...]`` with B lengths in ``seq_lens``; None stands for whole ones.

        At padding, logits and values are zero, and no gradient comes from it, whatever it holds. The returned state is
        the one behind a sequence's last step.
        """
        observations = input_dict[self._observation_key]
        if not self._initial_state:
            logits, self._values, _ = self._run(observations, [])
            return logits, []
        batch = len(seq_lens if seq_lens is not None else state[0] if state else observations)
        state = state or [leaf.to(observations.device).expand(batch, *leaf.shape) for leaf in self.get_initial_state()]
        observations = observations.reshape(batch, -1, *observations.shape[1:])
        steps = observations.shape[1]
        lengths = torch.full((batch,), steps) if seq_lens is None else torch.as_tensor(seq_lens)
        if (lengths == steps).all():
            logits, values, after = self._run(observations, state)
        else:
            logits, values, after = self._run_padded(observations, state, lengths)
        self._values = values.flatten()
        return logits.flatten(0, 1), after

    def _run_padded(self, observations, state, lengths):
        """All sequences at once for the outputs, and the shorter ones again, without their padding, for the state."""
        steps = observations.shape[1]
        real = torch.arange(steps, device=lengths.device) < lengths[:, None]  # [B, T]
        observations = torch.where(real.reshape(*real.shape, *[1] * (observations.dim() - 2)), observations, 0)
        logits, values, after = self._run(observations, state)
        after = [leaf.clone() for leaf in after]
        for length in lengths[lengths < steps].unique().tolist():
            rows = (lengths == length).nonzero()[:, 0]
            own = [leaf[rows] for leaf in state]
            own = self._run(observations[rows, :length], own)[2] if length else own
            for leaf, new in zip(after, own, strict=True):
                leaf[rows] = new
        return torch.where(real[..., None], logits, 0.0), torch.where(real, values, 0.0), after

    def _run(self, observations, state):
        """``[..., obs]`` and the state's tensors to logits ``[..., num_outputs]``, values ``[...]``, next state."""
        batch = {Columns.OBS: observations}
        if state:
            batch[Columns.STATE_IN] = tree.unflatten_as(self._initial_state, state)
        encoded = self.rl_module.encoder(batch)
        features = encoded[ENCODER_OUT]
        lead = features[ACTOR].shape[:-1]
        logits = self.rl_module.pi(features[ACTOR].flatten(0, -2)).reshape(*lead, -1)
        values = self.rl_module.vf(features[CRITIC].flatten(0, -2)).reshape(lead)
        return logits, values, tree.flatten(encoded.get(Columns.STATE_OUT, {}))

    def value_function(self) -> torch.Tensor:
        """Values ``[B * T]`` of the observations last given to ``forward``."""
        assert self._values is not None, "value_function() before the first forward()"
        return self._values
