"""Associative retrieval: which digit stood behind the letter?"""

import torch
from stpn_envs.associative_retrieval import VOCABULARY, sample_sequences

from rllib_stpn import checks
from rllib_stpn.layers import Layer
from rllib_stpn.supervised.sampled import SampledTask
from rllib_stpn.supervised.sequence_module import LastStep, OneHot, SequenceModule

MOST_PAIRS = 26


class AssociativeRetrieval(SampledTask):
    """Pairs of a letter and a digit, two question marks, one of the letters again: ``a1b2c3??b`` -> ``2``.

    Ba, Hinton, Mnih, Leibo, Ionescu, "Using Fast Weights to Attend to the Recent Past" (NIPS 2016), with the sizes of
    Garcia Rodriguez, Guo, Moraitis, "Short-Term Plasticity Neurons Learning to Learn and Forget" (ICML 2022). One-hot
    inputs of a vocabulary of 37 (letters, digits, the question mark), a linear read-out of 37 logits at the last step,
    cross-entropy. Guessing one of the digits that were shown is right in 40 % of sequences with three pairs.

    Args:
        num_pairs: Pairs in a sequence, which has ``2 num_pairs + 3`` steps; at most 26, since no letter comes twice.
        train_size: Sequences for training, the same in every epoch, in another order.
        validation_size: Sequences for validation.
        test_size: Sequences for the test.

    Raises:
        UsageError: An option that is no positive integer, or more pairs than letters.
    """

    name = "associative_retrieval"

    def __init__(
        self, *, num_pairs: int = 3, train_size: int = 100_000, validation_size: int = 10_000, test_size: int = 20_000
    ):
        super().__init__(train_size, validation_size, test_size)
        self.num_pairs = checks.integer(f"{self.name}: num_pairs", num_pairs, at_least=1, at_most=MOST_PAIRS)

    @property
    def input_size(self) -> int:
        """The vocabulary."""
        return len(VOCABULARY)

    def sample(self, rng, number):
        """Tokens ``[number, 2 num_pairs + 3]`` and answers ``[number]``, both int64."""
        tokens, answers = sample_sequences(rng, number, self.num_pairs)
        return torch.from_numpy(tokens).long(), torch.from_numpy(answers).long()

    def make_module(self, layer: Layer) -> SequenceModule:
        """One-hot inputs, the layer, a linear read-out at the last step."""
        size = len(VOCABULARY)
        return SequenceModule(OneHot(size), layer, LastStep(layer.output_size, size))
