"""The sizes at which layers are compared: as many parameters, biases, read-outs and value heads counted."""

import pytest

from rllib_stpn.layers import make_layer

RETRIEVAL = {"input_size": 37, "read_out": 37}
MAZE = {"input_size": 17, "read_out": 5}  # four actions and the value


@pytest.mark.parametrize(
    ("task", "name", "hidden_size", "options", "expected"),
    [
        pytest.param(RETRIEVAL, "stpn", 11, {}, 2039, id="retrieval-stpn"),
        pytest.param(RETRIEVAL, "lstm", 9, {"bias": "single"}, 2062, id="retrieval-lstm"),
        pytest.param(RETRIEVAL, "rnn", 20, {"bias": "single"}, 1937, id="retrieval-rnn"),
        pytest.param(RETRIEVAL, "fast_weights", 20, {}, 1977, id="retrieval-fast_weights"),
        pytest.param(RETRIEVAL, "modulated_plastic_rnn", 17, {}, 1908, id="retrieval-modulated_plastic_rnn"),
        pytest.param(RETRIEVAL, "stpn", 20, {"per_synapse": False}, 1939, id="retrieval-stpn-scalar"),
        pytest.param(RETRIEVAL, "stpn", 13, {"recurrent": False}, 1974, id="retrieval-stpn-feedforward"),
        pytest.param(RETRIEVAL, "hebbff", 26, {}, 1989, id="retrieval-hebbff"),
        pytest.param(MAZE, "stpn", 55, {}, 12215, id="maze-stpn"),
        pytest.param(MAZE, "lstm", 47, {}, 12648, id="maze-lstm"),
        pytest.param(MAZE, "rnn", 100, {"bias": "single"}, 12305, id="maze-rnn"),
        pytest.param(MAZE, "modulated_plastic_rnn", 73, {}, 12416, id="maze-modulated_plastic_rnn"),
        pytest.param(MAZE, "stpn", 30, {}, 4415, id="maze-stpn-small"),
        pytest.param(MAZE, "stpn", 55, {"per_synapse": False}, 4297, id="maze-stpn-scalar"),
        pytest.param(MAZE, "stpn", 76, {"recurrent": False}, 4337, id="maze-stpn-feedforward"),
        pytest.param(MAZE, "hebbff", 181, {}, 4170, id="maze-hebbff"),
    ],
)
def test_matched_sizes(task, name, hidden_size, options, expected):
    layer = make_layer(name, input_size=task["input_size"], hidden_size=hidden_size, **options)
    read_out = task["read_out"] * (hidden_size + 1)
    assert sum(p.numel() for p in layer.parameters()) + read_out == expected


@pytest.mark.parametrize(
    ("name", "hidden_size", "expected"), [("stpn", 64, 510016), ("lstm", 48, 507264)], ids=["stpn", "lstm"]
)
def test_cores_for_pong(name, hidden_size, expected):
    layer = make_layer(name, input_size=2592, hidden_size=hidden_size)
    assert sum(p.numel() for p in layer.parameters()) == expected
