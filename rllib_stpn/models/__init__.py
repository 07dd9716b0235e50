"""What RLlib builds from: catalog and encoder, the RLModule, and the spec that names them."""

from rllib_stpn.models.catalog import ActorCriticCatalog, LayerCatalog, LayerQCatalog
from rllib_stpn.models.encoder import IS_FIRST, LayerEncoder, encoders
from rllib_stpn.models.module import MemoryRLModule
from rllib_stpn.models.q_module import MemoryQModule
from rllib_stpn.models.spec import recurrent_spec, spec_from_model_dict

__all__ = [
    "IS_FIRST",
    "ActorCriticCatalog",
    "LayerCatalog",
    "LayerEncoder",
    "LayerQCatalog",
    "MemoryQModule",
    "MemoryRLModule",
    "encoders",
    "recurrent_spec",
    "spec_from_model_dict",
]
