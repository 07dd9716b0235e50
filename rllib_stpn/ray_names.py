"""Names that Ray has to know: of trainables, of environments, and of classes by their paths."""

from __future__ import annotations

import functools
import importlib
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import gymnasium as gym

from rllib_stpn.errors import UsageError

if TYPE_CHECKING:
    from ray.rllib.env.env_context import EnvContext

_classes: set[str] = set()  # that are registered by their paths


def how_to_register(env: object) -> str | None:
    """The call by which another process registers an environment as this one has.

    None where gymnasium finds the name by itself, and where it is the user's own to register.
    """
    import stpn_envs

    if env in (*stpn_envs.ENV_IDS, "StatelessCartPole"):
        return "rllib_stpn.register()"
    return f'rllib_stpn.register("{env}")' if env in _classes else None


def register_trainable(name: str, trainable: type) -> None:
    """Registers a class with Tune unless the name is taken, such as by the subclass that ``rllib train`` runs."""
    from ray.tune import registry

    if not registry._global_registry.contains(registry.TRAINABLE_CLASS, name):
        registry.register_trainable(name, trainable)


def register_environments() -> None:
    """Registers the environments of ``stpn_envs`` by their plain ids, e.g. ``"stpn/Pong-v0"``, and
    ``"StatelessCartPole"``.

    ``"stpn_envs:stpn/Pong-v0"`` finds one without this. Names that are taken keep what they have.
    """
    import stpn_envs
    from ray.tune import registry

    creators = {env_id: _creator(f"stpn_envs:{env_id}") for env_id in stpn_envs.ENV_IDS}
    for name, creator in {"StatelessCartPole": _stateless_cartpole, **creators}.items():
        if not registry._global_registry.contains(registry.ENV_CREATOR, name):
            registry.register_env(name, creator)


def is_path(name: str) -> bool:
    """Whether an environment's name is the path of a class, such as ``"my_package.MyEnv"``."""
    return re.fullmatch(r"(\w+\.)+[A-Z]\w*", name) is not None


def class_at(path: str) -> Any:
    """The class of a path, such as ``"my_package.MyEnv"``.

    Raises:
        UsageError: It cannot be imported.
    """
    module, _, name = path.rpartition(".")
    try:
        return getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise UsageError(f"{path!r} cannot be imported: {error}") from error


def register_class(path: str) -> bool:
    """Registers an environment's class in RLlib's style, which takes the ``env_config``, by its path.

    Args:
        path: Such as ``"my_package.MyEnv"``.

    Returns:
        Whether that is the path of a class.

    Raises:
        UsageError: It is, but cannot be imported.
    """
    from ray.tune.registry import register_env

    if not is_path(path):
        return False
    kind = class_at(path)

    def create(context):
        if "num_envs" not in context:
            return kind(context)
        arguments = {key: value for key, value in context.items() if key != "num_envs"}
        contexts = [_context(context, arguments, index) for index in range(context["num_envs"])]
        return gym.vector.SyncVectorEnv([functools.partial(kind, each) for each in contexts])

    register_env(path, create)
    _classes.add(path)
    return True


def _context(vector: Mapping[str, Any], env_config: dict[str, Any], index: int) -> EnvContext:
    """The context of one environment, from that of all of them; RLlib's own runner has a bare dict there."""
    from ray.rllib.env.env_context import EnvContext

    return EnvContext(
        env_config,
        worker_index=getattr(vector, "worker_index", 0),
        vector_index=index,
        remote=getattr(vector, "remote", False),
        num_workers=getattr(vector, "num_workers", None),
    )


def _stateless_cartpole(context):
    """RLlib's CartPole without velocities, with the 500-step limit that it lacks."""
    from ray.rllib.examples.envs.classes.stateless_cartpole import StatelessCartPole

    def make() -> gym.Env:
        env = StatelessCartPole()
        env.render_mode = context.get("render_mode")
        return gym.wrappers.TimeLimit(env, max_episode_steps=500)

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
