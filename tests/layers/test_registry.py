import doctest
import importlib

import pytest

from rllib_stpn.errors import UsageError
from rllib_stpn.layers import LAYERS, layer_options, make_layer


def test_unknown_name():
    with pytest.raises(
        UsageError, match="layer: got 'stnp', allowed are 'stpn', 'rnn', 'lstm', 'gru', 'mlp', 'fast_weights'"
    ):
        make_layer("stnp", input_size=5, hidden_size=4)


def test_unknown_option():
    with pytest.raises(UsageError, match="lstm: got the unknown option 'normalize', allowed are 'bias'"):
        make_layer("lstm", input_size=5, hidden_size=4, normalize="pre")


@pytest.mark.parametrize("name", LAYERS)
def test_options_have_defaults_that_work_and_descriptions(name):
    options = layer_options(name)
    make_layer(name, input_size=5, hidden_size=4, **{key: default for key, (default, _) in options.items()})
    assert all(description for _, description in options.values())
    assert not {"input_size", "hidden_size"} & options.keys()


def test_options_of_stpn():
    assert layer_options("stpn")["normalize"][0] == "pre"
    assert layer_options("stpn")["recurrent"] == (
        True,
        "Whether units see their own previous outputs; False is STPNf.",
    )


@pytest.mark.parametrize("module", ["registry", "stack", *LAYERS])
def test_docstring_examples(module):
    assert doctest.testmod(importlib.import_module(f"rllib_stpn.layers.{module}")).failed == 0
