"""A trained agent, loaded from its checkpoint: observations in, actions out, without Ray running."""

from __future__ import annotations

import contextlib
import functools
import math
from collections.abc import Hashable, Iterator, Sequence
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch
import tree
from ray.rllib.core.columns import Columns
from ray.rllib.core.models.base import ACTOR, CRITIC
from ray.rllib.env.single_agent_episode import SingleAgentEpisode
from ray.rllib.utils.numpy import convert_to_numpy
from ray.rllib.utils.spaces.space_utils import get_base_struct_from_space, unbatch
from ray.rllib.utils.torch_utils import convert_to_torch_tensor

from rllib_stpn import pretrained
from rllib_stpn.agents import agent_files
from rllib_stpn.agents.checkpoints import Checkpoint, find_checkpoint, read_checkpoint
from rllib_stpn.agents.environments import make_env, vector_env_of
from rllib_stpn.agents.several import of_policy
from rllib_stpn.energy.spent import acting_layers, energies_of
from rllib_stpn.errors import UsageError
from rllib_stpn.models import LayerEncoder, encoders
from rllib_stpn.rollouts.acting import action_distribution, forward_one_step, to_arrays
from rllib_stpn.rollouts.connectors import action_transforms, observation_transforms
from rllib_stpn.rollouts.previous import previous_inputs
from rllib_stpn.rollouts.values import largest

State = dict[str, Any]


def load(checkpoint: Any, policy: Hashable | None = None) -> Agent:
    """Loads a trained agent. Ray need not run, and is not started.

    ::

        agent = rllib_stpn.load("~/ray_results/pong_stpn")
        env = agent.make_env(num_envs=8)
        observations, _ = env.reset(seed=0)
        state, is_first = None, np.ones(8, bool)
        for _ in range(1000):
            actions, state = agent.step(observations, state, is_first)
            observations, rewards, terminated, truncated, _ = env.step(actions)
            is_first = terminated | truncated

    Args:
        checkpoint: The name of an agent that comes with the package, such as ``"maze_stpn"``
            (``rllib_stpn.pretrained.names()``), or a file of the same form; or the directory of a checkpoint of any
            single-agent algorithm on RLlib's new API stack, with the batched env runner or RLlib's own; or of a Tune
            trial or experiment, whose newest checkpoint is taken; or a ``ray.tune.Checkpoint``.
        policy: Which policy, of a checkpoint of several. It acts on observations of its agents, one a row.

    Raises:
        UsageError: There is no checkpoint that can be loaded; the message says what was found.
    """
    found = read(checkpoint)
    if found.config.is_multi_agent:
        return Agent(of_policy(found, policy))
    if policy is not None:
        raise UsageError(f"checkpoint {found.path}: policy: got {policy!r}, allowed is none: it has one agent")
    return Agent(found)


def read(checkpoint: Any) -> Checkpoint:
    """What :func:`load` makes an agent of."""
    if pretrained.is_name(checkpoint):
        return agent_files.read(pretrained.find(checkpoint))
    if str(checkpoint).endswith(pretrained.SUFFIX):
        return agent_files.read(Path(checkpoint).expanduser())
    return read_checkpoint(find_checkpoint(checkpoint), vector_env_of)


class Agent:
    """A trained module between the observation and action connectors that it was trained with.

    Observation filters keep the statistics of training and learn no further.

    Attributes:
        module: RLlib's RLModule.
        observation_space: The environment's, before any connector, with the previous action and reward where the
            `model` block asked for them: ``make_env`` shows them.
        action_space: The environment's; ``step`` returns its actions, unsquashed and clipped as in training.
        env_id: The environment as the training's config named it.
        env_config: Its arguments.
        algorithm: Name of the algorithm, e.g. ``"PPO"``.
        checkpoint: Directory it was loaded from.
        among_others: Whether it is one policy of several agents.
    """

    def __init__(self, checkpoint: Checkpoint) -> None:
        self.checkpoint = checkpoint.path
        self.algorithm = checkpoint.algorithm
        self.module = checkpoint.module
        self.observation_space = checkpoint.observation_space
        self.action_space = checkpoint.action_space
        self.env_id = checkpoint.config.env
        self.env_config = dict(checkpoint.config.env_config)
        self._previous_inputs = previous_inputs(checkpoint.config)
        self._env_steps = checkpoint.env_steps
        self.among_others = checkpoint.config.is_multi_agent
        self._env_to_module = checkpoint.env_to_module
        self._module_to_env = checkpoint.module_to_env
        self._start = convert_to_torch_tensor(self.module.get_initial_state() or {})  # without the batch axis
        for connector in self._env_to_module.connectors:
            if hasattr(connector, "_update_stats"):
                connector._update_stats = False
        try:
            self._observation_transforms = observation_transforms(self._env_to_module)
            self._action_transforms = action_transforms(self._module_to_env)
            self._by_episode = False
        except UsageError:  # a connector that only runs on RLlib's episode objects
            self._by_episode = True

    def __repr__(self) -> str:
        """Such as ``Agent(PPO on stpn_envs:stpn/Maze-v0, stpn of 55 units)``."""
        layers = [encoder.layer for encoder in self._acting_encoders()]
        model = f"{layers[0].name} of {layers[0].hidden_size} units" if layers else type(self.module).__name__
        return f"Agent({self.algorithm} on {self.env_id}, {model})"

    def make_env(self, num_envs: int | None = None, render_mode: str | None = None) -> gym.Env | gym.vector.VectorEnv:
        """Makes the environment that the agent was trained in: one, or a vector environment of ``num_envs``.

        Of a policy of several agents, it is RLlib's ``MultiAgentEnv``, in which it is one of those that act.

        The vector environment resets in the step that ends an episode, so that ``terminated | truncated`` is the next
        step's ``is_first``.

        Raises:
            UsageError: An environment that is not known in this process, or that cannot render as ``render_mode``; more
                than one of several agents.
        """
        if self.among_others and num_envs is not None:
            raise UsageError(
                f"environment {self.env_id!r}: num_envs: got {num_envs}, allowed is None: it has several agents"
            )
        return make_env(self.env_id, self.env_config, num_envs, render_mode, self._previous_inputs)

    def initial_state(self, batch_size: int) -> State:
        """The state before an episode's first step: tensors ``[batch_size, ...]``; empty for memoryless modules."""
        if self._by_episode:
            return {"episodes": [None] * batch_size, "outputs": [{}] * batch_size}
        return tree.map_structure(lambda leaf: leaf.expand(batch_size, *leaf.shape).clone(), self._start)

    def step(
        self,
        observations: Any,
        state: State | None = None,
        is_first: Any = None,
        *,
        explore: bool = False,
        generator: torch.Generator | Sequence[torch.Generator] | None = None,
        rewards: Any = None,
        return_energy: bool = False,
    ) -> tuple[Any, State] | tuple[Any, State, torch.Tensor]:
        """Chooses an action for each of N environments.

        Args:
            observations: A batch of the observation space ``[N, ...]``, as vector environments return it: arrays, in
                dicts or tuples for such spaces.
            state: What the previous step returned; None before the first.
            is_first: ``[N]`` bool, True where an episode begins: the state is reset there. None: nowhere.
            explore: Whether to sample actions as in training; otherwise the most probable one is taken.
            generator: Source of the random numbers for ``explore``, torch's global one by default; or N of them, one
                for each environment, whose actions then do not depend on what is drawn for the others.
            rewards: ``[N]`` of the previous step, for connectors that show them to the module.
            return_energy: Whether to measure the energy of the layers' synaptic operations
                (:func:`~rllib_stpn.kernels.synaptic_energy.synaptic_energy`).

        Returns:
            Actions ``[N, ...]`` for a vector environment, the next state and, with ``return_energy``, the energy
            ``[N]`` of this step, summed over the units of all layers that act.

        Raises:
            UsageError: Observations, state or mask that do not fit, an observation that is not finite, or energy of a
                module without layers of this package.
        """
        observations, batch_size = self._checked(observations)
        first = np.zeros(batch_size, bool) if is_first is None else np.asarray(is_first)
        if first.shape != (batch_size,) or first.dtype != bool:
            raise UsageError(f"agent: is_first: got {first.dtype} {first.shape}, allowed is bool ({batch_size},)")
        generators = generator if isinstance(generator, Sequence) else None
        if generators is not None and len(generators) != batch_size:
            raise UsageError(f"agent: generator: got {len(generators)} of them, allowed are 1 and {batch_size}")
        if generators is not None and explore and self._by_episode:
            return self._step_by_row(observations, state, first, explore, generators, rewards, return_energy)
        layers = acting_layers(self.module) if return_energy else []
        # Greedy steps on episodes hardly draw at all: they take the whole batch, and the first generator.
        one = generator if not isinstance(generator, Sequence) else generator[0] if self._by_episode else None
        try:
            with torch.no_grad(), _randomness_of(one), energies_of(layers) as energies:
                if self._by_episode:
                    actions, new_state = self._step_by_episode(observations, state, first, explore, rewards)
                else:
                    actions, new_state = self._step_batched(observations, state, first, explore, generators)
        except _DrawsByItself:
            assert generators is not None
            return self._step_by_row(observations, state, first, explore, generators, rewards, return_energy)
        if not return_energy:
            return actions, new_state
        return actions, new_state, torch.stack([energy.total.sum((1, 2)) for energy in energies]).sum(0)

    def fast_weights(self, state: State) -> dict[str, torch.Tensor]:
        """The fast weights that a state holds, ``[N, units, inputs]`` by their names in the layer; ``{}`` for none."""
        layers = [encoder.layer for encoder in self._acting_encoders()]
        names = [key for layer in layers[:1] for key, shape in layer.state_shapes().items() if len(shape) == 2]
        if not names:
            return {}
        if self._by_episode:
            rows = [convert_to_torch_tensor(outputs[Columns.STATE_OUT]) for outputs in state["outputs"]]
            state = tree.map_structure(lambda *leaves: torch.stack(leaves), *rows)
        state = state.get(ACTOR, state)  # policy and value may have a state each
        return {name: state[name] for name in names}

    # --- whole arrays -------------------------------------------------------------------------------------------

    def _step_batched(self, observations, state, first, explore, generators=None):
        for transform in self._observation_transforms:
            observations = transform(observations)
        _check_finite(observations)
        state = self._started(state, first) if self.module.is_stateful() else None
        forward = functools.partial(self._forward, explore=explore)
        if generators is None:
            outputs = forward_one_step(forward, observations, state)
            if Columns.ACTIONS not in outputs:
                outputs[Columns.ACTIONS] = action_distribution(self.module, outputs, explore).sample()
        else:
            with _drawing_nothing():
                outputs = forward_one_step(forward, observations, state)
            if Columns.ACTIONS not in outputs and explore:
                outputs[Columns.ACTIONS] = self._drawn_by_row(outputs[Columns.ACTION_DIST_INPUTS], generators)
            elif Columns.ACTIONS not in outputs:
                outputs[Columns.ACTIONS] = action_distribution(self.module, outputs, explore).sample()
        actions = to_arrays(outputs[Columns.ACTIONS])
        for transform in self._action_transforms:
            actions = transform(actions)
        return actions, outputs.get(Columns.STATE_OUT, {})

    def _drawn_by_row(self, inputs: torch.Tensor, generators: Sequence[torch.Generator]) -> Any:
        """Actions ``[B, ...]``, each drawn by its own generator."""
        rows = []
        for row, generator in zip(inputs.split(1), generators, strict=True):
            with _randomness_of(generator):
                distribution = action_distribution(self.module, {Columns.ACTION_DIST_INPUTS: row}, explore=True)
                rows.append(distribution.sample())
        return tree.map_structure(lambda *leaves: torch.cat(leaves), *rows)

    def _started(self, state: State | None, first: np.ndarray) -> State:
        """The state before this step, reset where an episode begins."""
        if state is None:
            return self.initial_state(len(first))
        shapes = [(len(first), *leaf.shape) for leaf in tree.flatten(self._start)]
        given = [tuple(getattr(leaf, "shape", ())) for leaf in tree.flatten(state)]
        if given != shapes:
            raise UsageError(f"agent: state: got shapes {given}, allowed are {shapes}, as initial_state returns them")
        if not first.any():
            return state
        mask = torch.from_numpy(first)
        return tree.map_structure(
            lambda new, old: torch.where(mask.view(-1, *[1] * new.dim()), new, old), self._start, state
        )

    # --- RLlib's episode objects --------------------------------------------------------------------------------

    def _step_by_episode(self, observations, state, first, explore, rewards):
        """One step as RLlib's ``SingleAgentEnvRunner`` takes it, for connectors that look at past steps.

        The state holds each environment's episode so far; a step is added to it in place.
        """
        state = self.initial_state(len(first)) if state is None else state
        if len(state.get("episodes", [])) != len(first):
            raise UsageError(f"agent: state: got another than step returned for {len(first)} observations")
        rewards = np.full(len(first), np.nan) if rewards is None else np.asarray(rewards)  # seen if they are needed
        episodes = list(state["episodes"])
        for row, observation in enumerate(unbatch(observations)):
            if first[row] or episodes[row] is None:
                episodes[row] = SingleAgentEpisode(
                    observation_space=self.observation_space, action_space=self.action_space
                )
                episodes[row].add_env_reset(observation)
            else:
                outputs = dict(state["outputs"][row])
                action = outputs.pop(Columns.ACTIONS)
                episodes[row].add_env_step(observation, action, rewards[row], extra_model_outputs=outputs)
        arguments = {"rl_module": self.module, "episodes": episodes, "explore": explore, "shared_data": {}}
        batch = self._env_to_module(batch={}, **arguments)
        _check_finite(convert_to_numpy(batch[Columns.OBS]))
        outputs = self._module_to_env(batch=dict(self._forward(batch, explore)), **arguments)
        for_env = outputs.pop(Columns.ACTIONS_FOR_ENV, outputs[Columns.ACTIONS])
        outputs[Columns.ACTIONS] = unbatch(outputs[Columns.ACTIONS])
        rows = [{column: values[row] for column, values in outputs.items()} for row in range(len(first))]
        return for_env, {"episodes": episodes, "outputs": rows}

    # --- one environment at a time ------------------------------------------------------------------------------

    def _step_by_row(self, observations, state, first, explore, generators, rewards, return_energy):
        """The same as ``step``, for a module or connectors that draw for the whole batch."""
        rows = []
        state = self.initial_state(len(first)) if state is None else state
        for i, generator in enumerate(generators):
            row = slice(i, i + 1)
            own = {name: states[row] for name, states in state.items()} if self._by_episode else _rows(state, row)
            rows.append(
                self.step(
                    _rows(observations, row), own, first[row], explore=explore, generator=generator,
                    rewards=None if rewards is None else rewards[row], return_energy=return_energy,
                )
            )  # fmt: skip
        actions, states, *energies = zip(*rows, strict=True)
        actions = tree.map_structure(lambda *leaves: np.concatenate([np.asarray(leaf) for leaf in leaves]), *actions)
        if self._by_episode:
            joined = {name: [each for of_row in states for each in of_row[name]] for name in state}
        else:
            joined = tree.map_structure(lambda *leaves: torch.cat(leaves), *states)
        return actions, joined, *(torch.cat(energy) for energy in energies)

    # --- both ---------------------------------------------------------------------------------------------------

    def _forward(self, batch: dict[str, Any], explore: bool) -> dict[str, Any]:
        if explore:
            return self.module.forward_exploration(batch, t=self._env_steps)
        return self.module.forward_inference(batch)

    def _acting_encoders(self) -> list[LayerEncoder]:
        """The encoders that lead to the action: not a value function's own."""
        return [encoder for name, encoder in encoders(self.module).items() if CRITIC not in name]

    def _checked(self, observations: Any) -> tuple[Any, int]:
        """The observations as arrays, and how many there are."""
        spaces = get_base_struct_from_space(self.observation_space)
        try:
            leaves = [np.asarray(leaf) for leaf in tree.flatten_up_to(spaces, observations, check_types=False)]
        except (TypeError, ValueError):
            leaves = []
        batch_size = len(leaves[0]) if leaves and leaves[0].ndim else 0
        shapes = [leaf.shape for leaf in leaves]
        # A text has no shape: a batch of them is a row of strings.
        if not batch_size or shapes != [(batch_size, *(space.shape or ())) for space in tree.flatten(spaces)]:
            given = f"shapes {shapes}" if leaves else type(observations).__name__
            raise UsageError(
                f"agent: observations: got {given}, allowed is a batch [N, ...] of {self.observation_space}"
            )
        return tree.unflatten_as(spaces, leaves), batch_size


def _check_finite(observations: Any) -> None:
    row, size, observation = largest(observations)
    if not math.isfinite(size):
        raise UsageError(
            f"agent: observation {row} of the batch is not finite once it has passed the connectors: "
            f"{np.array2string(observation.ravel(), threshold=8)} (connectors that read rewards need `rewards`)"
        )


def _rows(values: Any, rows: slice) -> Any:
    return tree.map_structure(lambda leaf: leaf[rows], values)


class _DrawsByItself(Exception):
    """A module has drawn random numbers for all rows of a batch at once."""


@contextlib.contextmanager
def _drawing_nothing() -> Iterator[None]:
    """Raises :class:`_DrawsByItself` after code that has drawn from torch's global generator, which is put back."""
    before = torch.get_rng_state()
    yield
    if not torch.equal(before, torch.get_rng_state()):
        torch.set_rng_state(before)
        raise _DrawsByItself


@contextlib.contextmanager
def _randomness_of(generator: torch.Generator | None) -> Iterator[None]:
    """Within, torch draws from this generator; RLlib's distributions know none but the global one."""
    if generator is None:
        yield
        return
    with torch.random.fork_rng(devices=[]):
        torch.set_rng_state(generator.get_state())
        yield
        generator.set_state(torch.get_rng_state())
