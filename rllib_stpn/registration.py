"""Makes the package known to Ray."""

from __future__ import annotations

import contextlib
import pydoc

from rllib_stpn.errors import UsageError
from rllib_stpn.ray_names import register_class, register_environments, register_trainable


def register(*paths: str) -> None:
    """Registers with Tune ``"A2C"`` and ``"Supervised"``, and with RLlib

    - the environments, as :func:`register_environments` does, and what is given;
    - for RLlib's old API stack, each layer as the ``custom_model`` of its name, e.g. ``"stpn"``, and the
      ``custom_action_dist`` ``"softplus_gaussian"``.

    Scripts on the old API stack need it. Those on the new one do not: ``recurrent_spec`` and ``A2CConfig`` register
    what goes with them. The driver alone calls it, before or after ``ray.init()``: Ray carries the registrations to its
    actors. Calling it again changes nothing, and names that are taken keep what they have, but for those given; after
    ``ray.shutdown()``, a new Ray needs a new call.

    Args:
        paths: Paths of classes, as a file of ``rllib train`` names them: environments in RLlib's style, such as
            ``"my_package.MyEnv"``, which ``Algorithm.from_checkpoint`` does not find by itself; for the old API stack
            also layers of your own, such as ``"my_package.MyLayer"``.

    Raises:
        UsageError: One of these is no class's path, or cannot be imported.
    """
    from ray.rllib.models import ModelCatalog

    from rllib_stpn.algorithms import A2C
    from rllib_stpn.layers import LAYERS
    from rllib_stpn.models.distributions import OLD_STACK_ACTION_DISTRIBUTIONS
    from rllib_stpn.models.model_v2 import LayerModel
    from rllib_stpn.supervised import Supervised

    register_trainable("A2C", A2C)
    register_trainable("Supervised", Supervised)
    for name in LAYERS:
        ModelCatalog.register_custom_model(name, LayerModel)
    for name, distribution in OLD_STACK_ACTION_DISTRIBUTIONS.items():
        ModelCatalog.register_custom_action_dist(name, distribution)
    register_environments()
    for path in paths:
        if _is_layer(path):
            register_layer(path)
        elif not register_class(path):
            raise UsageError(f"register: got {path!r}, allowed are paths of classes such as 'my_package.MyEnv'")


def register_layer(path: str) -> None:
    """Registers a layer of the user's own with RLlib's old API stack, as the ``custom_model`` of its path.

    Raises:
        UsageError: It is no layer, or cannot be imported.
    """
    from ray.rllib.models import ModelCatalog

    from rllib_stpn.layers import layer_class
    from rllib_stpn.models.model_v2 import LayerModel

    layer_class(path, "custom_model")
    ModelCatalog.register_custom_model(path, LayerModel)


def _is_layer(path: str) -> bool:
    from rllib_stpn.layers import Layer

    kind = None
    with contextlib.suppress(pydoc.ErrorDuringImport):  # which register_class tells
        kind = pydoc.locate(path)
    return isinstance(kind, type) and issubclass(kind, Layer)
