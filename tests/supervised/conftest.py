"""What the tests of supervised training share."""

import pytest

from rllib_stpn.supervised.task import SPLITS


@pytest.fixture
def text(tmp_path):
    """Files in the Penn Treebank's format, as options."""
    words = {"train": " a b c a b \n a <unk> b \n" * 9, "validation": "a d \n" * 20, "test": "b c \n" * 20}
    for split, written in words.items():
        (tmp_path / split).write_text(written)
    return {split: str(tmp_path / split) for split in SPLITS}
