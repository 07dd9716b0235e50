"""Layers with memory, called like ``torch.nn.LSTM``; they need torch alone."""

from rllib_stpn.layers.layer import Layer
from rllib_stpn.layers.lstm import LSTM
from rllib_stpn.layers.mlp import MLP
from rllib_stpn.layers.registry import LAYERS, layer_options, make_layer
from rllib_stpn.layers.stpn import STPN

__all__ = ["LAYERS", "LSTM", "MLP", "STPN", "Layer", "layer_options", "make_layer"]
