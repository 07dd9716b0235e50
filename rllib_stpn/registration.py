"""Makes the package known to Ray."""

from __future__ import annotations

from rllib_stpn.errors import UsageError
from rllib_stpn.ray_names import register_class, register_environments, register_trainable


def register(*environments: str) -> None:
    """Registers with Tune ``"A2C"`` and ``"Supervised"``, and with RLlib

    - the environments, as :func:`register_environments` does, and those given;
    - for RLlib's old API stack, each layer as the ``custom_model`` of its name, e.g. ``"stpn"``, a layer of your own as
      ``"own_layer"``, and the ``custom_action_dist`` ``"softplus_gaussian"``.

    Scripts on the old API stack need it. Those on the new one do not: ``recurrent_spec`` and ``A2CConfig`` register
    what goes with them. The driver alone calls it, before or after ``ray.init()``: Ray carries the registrations to its
    actors. Calling it again changes nothing, and names that are taken keep what they have, but for those given; after
    ``ray.shutdown()``, a new Ray needs a new call.

    Args:
        environments: Paths of environments' classes in RLlib's style, as a file of ``rllib train`` names them, such as
            ``"my_package.MyEnv"``; ``Algorithm.from_checkpoint`` does not find these by itself.

    Raises:
        UsageError: One of these is no class's path, or cannot be imported.
    """
    from ray.rllib.models import ModelCatalog

    from rllib_stpn.algorithms import A2C
    from rllib_stpn.layers import LAYERS
    from rllib_stpn.models.distributions import OLD_STACK_ACTION_DISTRIBUTIONS
    from rllib_stpn.models.model_v2 import OWN_LAYER, LayerModel
    from rllib_stpn.supervised import Supervised

    register_trainable("A2C", A2C)
    register_trainable("Supervised", Supervised)
    for name in (*LAYERS, OWN_LAYER):
        ModelCatalog.register_custom_model(name, LayerModel)
    for name, distribution in OLD_STACK_ACTION_DISTRIBUTIONS.items():
        ModelCatalog.register_custom_action_dist(name, distribution)
    register_environments()
    for path in environments:
        if not register_class(path):
            raise UsageError(f"register: got {path!r}, allowed are paths of classes such as 'my_package.MyEnv'")
