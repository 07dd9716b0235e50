"""Text for language modelling: the user's files, or the help topics that come with Python."""

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

from rllib_stpn.errors import UsageError

END, UNKNOWN = "<eos>", "<unk>"
_VALIDATION, _TEST = 8, 9
_BLOCK = 5
_TOKEN = re.compile(r"\w+|([^\w\s])\1*")  # a word, or a punctuation mark as often as it is repeated


def read_words(path: Path) -> list[str]:
    """The words of a text file, split at white space, with ``<eos>`` at the end of each line that has any.

    So one reads the Penn Treebank as Mikolov et al. (2010) prepared it (``ptb.train.txt``, ...), where rare words are
    ``<unk>`` already. Any other text will do as well.

    Raises:
        UsageError: The file is missing, no UTF-8 text, or has no words.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise UsageError(f"{path}: no such file") from None
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise UsageError(f"{path}: cannot be read: {reason}") from None
    words = list(_with_ends(line.split() for line in text.splitlines()))
    if not words:
        raise UsageError(f"{path}: no words in it")
    return words


def python_topics() -> dict[str, list[str]]:
    """The help topics of the running Python (``pydoc_data.topics``) as words, by split.

    Lower case, words and punctuation apart, ``<eos>`` after each paragraph. Topics quote one another, so paragraphs
    that come again are left out; of every ten blocks of five paragraphs, in the order of the topics' names, eight are
    for training, one for validation, one for the test. The topics differ between versions of Python: perplexities
    compare within one.
    """
    from pydoc_data.topics import topics

    paragraphs: dict[str, None] = {}  # in order, each once
    for name in sorted(topics):
        for paragraph in re.split(r"\n\s*\n", topics[name]):
            paragraphs.setdefault(" ".join(paragraph.split()).lower())
    splits: dict[str, list[list[str]]] = {"train": [], "validation": [], "test": []}
    for index, paragraph in enumerate(filter(None, paragraphs)):
        block = index // _BLOCK % 10
        split = "validation" if block == _VALIDATION else "test" if block == _TEST else "train"
        splits[split].append([token.group() for token in _TOKEN.finditer(paragraph)])
    return {split: list(_with_ends(found)) for split, found in splits.items()}


def make_vocabulary(words: Iterable[str], size: int) -> dict[str, int]:
    """Word -> id for the most frequent words, ``<unk>`` among them; equally frequent ones in alphabetical order.

    Args:
        words: The training text.
        size: The most words there can be.
    """
    counts = Counter(words)
    counts.pop(UNKNOWN, None)
    ranked = sorted(counts, key=lambda word: (-counts[word], word))
    return {word: index for index, word in enumerate([UNKNOWN, *ranked[: size - 1]])}


def _with_ends(lines: Iterable[list[str]]) -> Iterator[str]:
    for line in lines:
        if line:
            yield from line
            yield END
