"""Continual familiarity detection: has this been seen before?"""

import torch
from stpn_envs.familiarity import sample_sequences
from torch.nn import functional

from rllib_stpn import checks
from rllib_stpn.errors import UsageError
from rllib_stpn.layers import Layer
from rllib_stpn.supervised.sampled import SampledTask
from rllib_stpn.supervised.sequence_module import EveryStep, Float, MeanUnit, SequenceModule

READOUTS = ("linear", "mean")


class Familiarity(SampledTask):
    """Random vectors of ±1, some of which come again ``delay`` steps later; at every step: does this one?

    Tyulmankov, Yang, Abbott, "Meta-learning synaptic plasticity and memory addressing for continual familiarity
    detection" (Neuron 2022). From step ``delay`` on, a vector is with probability 1/2 that of ``delay`` steps before,
    unless that one was a repeat itself; a third are repeats, so that always answering "new" is right in 2/3. One logit
    at every step, binary cross-entropy.

    Args:
        dim: Length of a vector.
        delay: Steps between a vector and its repeat, the paper's R.
        length: Steps of a sequence, the paper's T.
        fresh: Whether every epoch has new training sequences; otherwise all have the same, in another order. The
            paper's one data set is ``fresh=False, length=5000, train_size=1``.
        train_size: Training sequences of an epoch.
        validation_size: Sequences for validation.
        test_size: Sequences for the test.
        readout: From the layer's outputs to the logit: "linear", or the "mean" of the units with a learned scale and
            bias, which is the read-out of the original HebbFF where all its weights are made the same.

    Raises:
        UsageError: An option outside what is listed here.
    """

    name = "familiarity"

    def __init__(
        self,
        *,
        dim: int = 100,
        delay: int = 3,
        length: int = 200,
        fresh: bool = True,
        train_size: int = 1600,
        validation_size: int = 200,
        test_size: int = 400,
        readout: str = "linear",
    ):
        super().__init__(train_size, validation_size, test_size)
        for option, value in (("dim", dim), ("delay", delay), ("length", length)):
            checks.integer(f"{self.name}: {option}", value, at_least=1, at_most=10**8)
        if length <= delay:
            raise UsageError(f"{self.name}: length: got {length}, allowed is more than the delay of {delay}")
        self.fresh = checks.flag(f"{self.name}: fresh", fresh)
        self.readout = checks.choice(f"{self.name}: readout", readout, READOUTS)
        self.dim = dim
        self.delay = delay
        self.length = length

    @property
    def input_size(self) -> int:
        """The vector's length."""
        return self.dim

    def sample(self, rng, number):
        """Inputs ``[number, length, dim]`` int8 and repeats ``[number, length]`` bool."""
        inputs, repeats = sample_sequences(rng, number, self.length, dim=self.dim, delay=self.delay)
        return torch.from_numpy(inputs), torch.from_numpy(repeats)

    def make_module(self, layer: Layer) -> SequenceModule:
        """The layer and a read-out of one logit at every step."""
        readout = EveryStep(layer.output_size) if self.readout == "linear" else MeanUnit()
        return SequenceModule(Float(), layer, readout)

    def loss(self, logits, targets):
        """Binary cross-entropy."""
        return functional.binary_cross_entropy_with_logits(logits, targets.float())

    def correct(self, logits, targets):
        """A positive logit says "seen before"."""
        return ((logits > 0) == targets).sum()
