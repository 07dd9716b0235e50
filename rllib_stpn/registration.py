"""Makes the package known to Ray: the algorithm A2C and environments by their plain ids."""

from __future__ import annotations

import gymnasium as gym


def register() -> None:
    """Registers A2C with Tune and the environments of ``stpn_envs`` with RLlib. Calling it again changes nothing.

    In a bare process ``stpn_envs:stpn/Pong-v0`` finds an environment without this; the plain id ``stpn/Pong-v0``
    needs it, on the driver alone: RLlib carries the registration to its actors.
    """
    import stpn_envs
    from ray.tune.registry import register_env, register_trainable

    from rllib_stpn.algorithms import A2C

    register_trainable("A2C", A2C)
    register_env("StatelessCartPole", _stateless_cartpole)
    for env_id in stpn_envs.ENV_IDS:
        register_env(env_id, _creator(f"stpn_envs:{env_id}"))


def _stateless_cartpole(context):
    """RLlib's CartPole without velocities, with the 500-step limit that it lacks."""
    from ray.rllib.examples.envs.classes.stateless_cartpole import StatelessCartPole

    def make() -> gym.Env:
        return gym.wrappers.TimeLimit(StatelessCartPole(), max_episode_steps=500)

    num_envs = dict(context).get("num_envs")
    return make() if num_envs is None else gym.vector.SyncVectorEnv([make] * num_envs)


def _creator(env_id: str):
    def create(context):
        arguments = dict(context)
        num_envs = arguments.pop("num_envs", None)
        if num_envs is None:
            return gym.make(env_id, **arguments)
        return gym.make_vec(env_id, num_envs=num_envs, vectorization_mode="vector_entry_point", **arguments)

    return create
