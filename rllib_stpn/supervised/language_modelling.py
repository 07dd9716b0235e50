"""Language modelling: which word comes next?"""

import math
import sys
from pathlib import Path

import numpy as np
import torch

from rllib_stpn import checks
from rllib_stpn.errors import UsageError
from rllib_stpn.layers import Layer
from rllib_stpn.supervised.corpora import UNKNOWN, make_vocabulary, python_topics, read_words
from rllib_stpn.supervised.sequence_module import SequenceModule
from rllib_stpn.supervised.task import SPLITS, Task

_LARGEST_LOSS = math.log(sys.float_info.max)  # 709.8; the exponential of more is no float


class LanguageModelling(Task):
    """The next word of a running text, word by word, by truncated back-propagation through time.

    The setting of Miconi, Rawal, Clune, Stanley, "Backpropamine: training self-modifying neural networks with
    differentiable neuromodulated plasticity" (ICLR 2019): an embedding, the layer (two of about 200 units there, by the
    layer's option ``num_layers``), a linear read-out of the vocabulary. The text is cut into as many streams as a batch
    has rows; they are read ``bptt`` words at a time, the state goes on from window to window, and gradients do not. A
    *sequence* in the results is one such window. Perplexity is the exponential of the mean cross-entropy per word.

    For Penn Treebank, as prepared by Mikolov et al. (2010)::

        task_config:
          train: ptb.train.txt
          validation: ptb.valid.txt
          test: ptb.test.txt

    Args:
        train: The training text, a file of words separated by white space; None for all three is the text of Python's
            own help topics, see :func:`rllib_stpn.supervised.corpora.python_topics`.
        validation: The validation text.
        test: The test text.
        vocabulary_size: The most words the vocabulary has, ``<unk>`` included; it is made from the training text, and
            all other words are ``<unk>``.
        embedding_size: Features of a word's embedding, which is the layer's input size.
        bptt: Words per window.

    Raises:
        UsageError: An option outside what is listed here; a file that is missing or too short.
    """

    name = "language_modelling"
    metric = "perplexity"
    carries_state = True

    def __init__(
        self,
        *,
        train: str | None = None,
        validation: str | None = None,
        test: str | None = None,
        vocabulary_size: int = 10_000,
        embedding_size: int = 200,
        bptt: int = 20,
    ):
        paths = dict(zip(SPLITS, (train, validation, test), strict=True))
        given = [split for split, path in paths.items() if path is not None]
        for split, path in paths.items():
            if given and split not in given:
                raise UsageError(f"{self.name}: {split}: missing; give train, validation and test, or none of them")
            if given and not isinstance(path, str):
                raise UsageError(f"{self.name}: {split}: got {path!r}, allowed is the path of a text file")
        for split in given:
            if not Path(paths[split]).expanduser().is_file():  # type: ignore[arg-type]
                raise UsageError(f"{self.name}: {split}: {paths[split]}: no such file")
        for option, value in (
            ("vocabulary_size", vocabulary_size),
            ("embedding_size", embedding_size),
            ("bptt", bptt),
        ):
            checks.integer(f"{self.name}: {option}", value, at_least=1, at_most=10**8)
        self.files = {split: Path(path).expanduser().absolute() for split, path in paths.items() if path is not None}
        self.vocabulary_size = vocabulary_size
        self.embedding_size = embedding_size
        self.bptt = bptt

    @property
    def input_size(self) -> int:
        """The embedding's size."""
        return self.embedding_size

    def make_data(self, seed: int) -> None:
        """Reads the text; nothing is random."""
        words = {split: read_words(path) for split, path in self.files.items()} or python_topics()
        self.vocabulary = self.vocabulary or make_vocabulary(words["train"], self.vocabulary_size)
        unknown = self.vocabulary[UNKNOWN]
        self._data = {
            split: torch.tensor([self.vocabulary.get(word, unknown) for word in text]) for split, text in words.items()
        }

    def make_module(self, layer: Layer) -> SequenceModule:
        """Embedding, layer, linear read-out of every step."""
        size = len(self.vocabulary)
        return SequenceModule(
            torch.nn.Embedding(size, self.embedding_size), layer, torch.nn.Linear(layer.output_size, size)
        )

    def batches(self, split, batch_size, rng: np.random.Generator | None = None):
        """Words ``[B, bptt]`` and the words after them; in the text's order, whatever ``rng``."""
        streams = self._streams(split, batch_size)
        inputs, targets = streams[:, :-1], streams[:, 1:]
        return zip(inputs.split(self.bptt, 1), targets.split(self.bptt, 1), strict=True)

    def _streams(self, split: str, batch_size: int) -> torch.Tensor:
        words = self._data[split]
        length = len(words) // batch_size
        if length < 2:
            raise UsageError(f"{self.name}: {split}: {len(words)} words are too few for a batch of {batch_size}")
        return words[: batch_size * length].view(batch_size, length)

    def num_batches(self, split, batch_size):
        """Windows of a stream."""
        return math.ceil((self._streams(split, batch_size).shape[1] - 1) / self.bptt)

    def metrics(self, split, loss, accuracy):
        """Perplexity beside loss and accuracy; infinite where the loss is too large for a float to hold it."""
        perplexity = math.inf if loss > _LARGEST_LOSS else math.exp(loss)
        return {**super().metrics(split, loss, accuracy), f"{split}_perplexity": perplexity}

    def better(self, score, best):
        """Lower is better."""
        return best is None or score < best
