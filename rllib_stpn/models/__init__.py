"""What RLlib sees: the Catalog with its encoder, the RLModule, and the spec that names both."""

from rllib_stpn.models.catalog import IS_FIRST, ActorCriticCatalog, LayerCatalog, LayerEncoder, encoders
from rllib_stpn.models.module import MemoryRLModule
from rllib_stpn.models.spec import recurrent_spec, spec_from_model_dict

__all__ = [
    "IS_FIRST",
    "ActorCriticCatalog",
    "LayerCatalog",
    "LayerEncoder",
    "MemoryRLModule",
    "encoders",
    "recurrent_spec",
    "spec_from_model_dict",
]
