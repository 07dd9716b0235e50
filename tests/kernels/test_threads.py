"""Threads, and what is left of them in a forked process."""

import os
import subprocess
import sys

import pytest

FORKED = """
import os, signal, torch
from rllib_stpn.layers import LAYERS, make_layer

torch.set_num_threads(2)
for name in LAYERS:
    layer = make_layer(name, input_size=17, hidden_size=32)
    inputs = torch.randn(256, 3, 17)
    layer(inputs)[0].sum().backward()
    torch.randn(600, 600) @ torch.randn(600, 600)
    child = os.fork()
    if child == 0:
        signal.alarm(120)  # ends a child that waits for threads that it does not have
        layer(inputs)[0].sum().backward()
        torch.randn(600, 600) @ torch.randn(600, 600)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0, name
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_every_layer_goes_on_in_a_forked_process():
    done = subprocess.run([sys.executable, "-c", FORKED], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
