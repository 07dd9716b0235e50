"""Layers with memory, called like ``torch.nn.LSTM``; they need torch alone."""

from rllib_stpn.layers.contract import LayerError, check_layer
from rllib_stpn.layers.fast_weights import FastWeights
from rllib_stpn.layers.gru import GRU
from rllib_stpn.layers.hebbff import HebbFF
from rllib_stpn.layers.layer import Layer
from rllib_stpn.layers.lstm import LSTM
from rllib_stpn.layers.mlp import MLP
from rllib_stpn.layers.modulated_plastic_rnn import ModulatedPlasticRNN
from rllib_stpn.layers.plastic_lstm import PlasticLSTM
from rllib_stpn.layers.plastic_recurrence import PlasticRecurrence
from rllib_stpn.layers.plastic_rnn import PlasticRNN
from rllib_stpn.layers.registry import LAYERS, layer_class, layer_options, layer_path, make_layer
from rllib_stpn.layers.retroactive_plastic_rnn import RetroactivePlasticRNN
from rllib_stpn.layers.rnn import RNN
from rllib_stpn.layers.stack import Stack
from rllib_stpn.layers.stpn import STPN

__all__ = [
    "GRU",
    "LAYERS",
    "LSTM",
    "MLP",
    "RNN",
    "STPN",
    "FastWeights",
    "HebbFF",
    "Layer",
    "LayerError",
    "ModulatedPlasticRNN",
    "PlasticLSTM",
    "PlasticRNN",
    "PlasticRecurrence",
    "RetroactivePlasticRNN",
    "Stack",
    "check_layer",
    "layer_class",
    "layer_options",
    "layer_path",
    "make_layer",
]
