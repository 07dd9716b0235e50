"""Weights in safetensors files: what is written is read, and what is wrong with a file is found."""

import json
import random

import numpy as np
import pytest
import torch

from rllib_stpn.agents.weights import read_weights, write_weights
from rllib_stpn.errors import UsageError

TENSORS = {
    "layer.weight": torch.arange(12, dtype=torch.float32).reshape(3, 4).T,  # not in one piece
    "scalar": torch.tensor(2.5, dtype=torch.float64),
    "nothing": torch.zeros(0, 3, dtype=torch.bfloat16),
    "mask": torch.tensor([True, False, True]),
    "half": torch.tensor([1.5, -2.0], dtype=torch.float16),
    "brain": torch.tensor([1.5, float("nan"), float("-inf")], dtype=torch.bfloat16),
    **{str(t): torch.tensor([[-1, 2, 3]]).to(t) for t in (torch.int64, torch.int32, torch.int16, torch.int8)},
    "bytes": torch.tensor([0, 255], dtype=torch.uint8),
}


def same(one, other):
    assert set(one) == set(other)
    for name, tensor in one.items():
        torch.testing.assert_close(other[name], tensor, rtol=0, atol=0, equal_nan=True)


def file_of(path, header, numbers=b"", length=None):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes((len(text) if length is None else length).to_bytes(8, "little") + text + numbers)
    return path


def tensor(begin, end, shape, dtype="F32"):
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


def test_what_is_written_is_read(tmp_path):
    path = tmp_path / "agent.safetensors"
    write_weights(path, TENSORS, {"env": "Maze-v0", "ü": "日本"})
    tensors, texts = read_weights(path)
    same(TENSORS, tensors)
    assert texts == {"env": "Maze-v0", "ü": "日本"}
    tensors["layer.weight"].add_(1)  # its own memory
    same(TENSORS, read_weights(path)[0])
    write_weights(path, {"a": np.ones((2, 2))})  # in its place
    assert read_weights(path)[1] == {} and list(tmp_path.iterdir()) == [path]
    write_weights(path, {})
    assert read_weights(path) == ({}, {})


def test_the_package_of_the_format_reads_and_writes_the_same(tmp_path):
    theirs = pytest.importorskip("safetensors.torch", exc_type=ImportError)
    write_weights(tmp_path / "ours", TENSORS, {"a": "b"})
    same(TENSORS, theirs.load_file(tmp_path / "ours"))
    with theirs.safe_open(tmp_path / "ours", "pt") as opened:
        assert opened.metadata() == {"a": "b"}
    theirs.save_file({name: each.contiguous() for name, each in TENSORS.items()}, tmp_path / "theirs", {"c": "d"})
    tensors, texts = read_weights(tmp_path / "theirs")
    same(TENSORS, tensors)
    assert texts == {"c": "d"}


@pytest.mark.parametrize(
    ("header", "numbers", "told"),
    [
        ({"a": tensor(0, 8, [2])}, bytes(4), "8 bytes together, 4 are there"),
        ({"a": tensor(0, 4, [1])}, bytes(8), "4 bytes together, 8 are there"),
        ({"a": tensor(0, 8, [2]), "b": tensor(4, 12, [2])}, bytes(12), "'b' begins at 4, where"),
        ({"a": tensor(0, 8, [2]), "b": tensor(0, 8, [2])}, bytes(8), "'b' begins at 0, where"),
        ({"a": tensor(0, 4, [1]), "b": tensor(8, 12, [1])}, bytes(12), "'b' begins at 8, where"),
        ({"a": tensor(0, 4, [2])}, bytes(4), "do not fit the shape"),
        ({"a": tensor(4, 0, [-1])}, bytes(4), "has the shape [-1]"),
        ({"a": tensor(0, 4, [True])}, bytes(4), "has the shape [True]"),
        ({"a": tensor(0, 4, [1.0])}, bytes(4), "has the shape [1.0]"),
        ({"a": tensor(0, 4, 1)}, bytes(4), "has the shape 1"),
        ({"a": tensor(0, 4, "1")}, bytes(4), "has the shape '1'"),
        ({"a": tensor(0, 0, [0, 2**64])}, b"", "a shape that no tensor can have"),
        ({"a": tensor(0, 0, [0] * 100)}, b"", "a shape that no tensor can have"),
        ({"a": {"dtype": "F32", "shape": [1], "data_offsets": [0]}}, bytes(4), "do not fit"),
        ({"a": tensor(0, 4, [1], "F33")}, bytes(4), "the type 'F33', allowed are F64"),
        ({"a": tensor(0, 4, [1], ["F32"])}, bytes(4), "the type ['F32']"),
        ({"a": tensor(0, 2, [2], "BOOL")}, b"\1\2", "neither true nor false"),
        ({"a": tensor(0, 4, [1]) | {"extra": 1}}, bytes(4), "and nothing else"),
        ({"a": [1]}, b"", "needs dtype"),
        ({"__metadata__": {"a": 1}}, b"", "got 1, allowed are texts"),
        ({"__metadata__": "a"}, b"", "is no mapping"),
        ([], b"", "is no mapping"),
        (b'{"a": 1, "a": 2}', b"", "'a' stands twice"),
        (b'{"\\ud800": 1}', b"", "allowed are texts"),
        (b'{"a": \xff}', b"", "is no JSON"),
        (b"[" * 100_000, b"", "is no JSON"),
        (b"{" + b" " * 10, b"", "is no JSON"),
        (b"", b"", "is no JSON"),
    ],
)
def test_what_cannot_be_is_refused_in_one_sentence_with_the_files_name(tmp_path, header, numbers, told):
    path = file_of(tmp_path / "agent.safetensors", header, numbers)
    with pytest.raises(UsageError) as error:
        read_weights(path)
    assert str(error.value).startswith(f"weights {path}: no safetensors file, or a damaged one: ")
    assert told in str(error.value) and "\n" not in str(error.value) and len(str(error.value)) < 500


@pytest.mark.parametrize("length", [3, 2**40, 2**64 - 1])
def test_so_is_a_header_that_is_not_as_long_as_it_says(tmp_path, length):
    with pytest.raises(UsageError, match="is said to have|is no JSON"):
        read_weights(file_of(tmp_path / "agent.safetensors", {"a": tensor(0, 4, [1])}, bytes(4), length))


def test_so_is_what_is_no_file(tmp_path):
    with pytest.raises(UsageError, match="no such file"):
        read_weights(tmp_path / "missing")
    with pytest.raises(UsageError, match="not a file"):
        read_weights(tmp_path)


def test_whatever_is_wrong_with_a_file_it_is_one_error(tmp_path):
    """Bits flipped, bytes put in and taken out: an error, or tensors of the sizes that the file has."""
    path, draw = tmp_path / "agent.safetensors", random.Random(0)
    write_weights(path, TENSORS, {"a": "b"})
    whole, refused = path.read_bytes(), 0
    for _ in range(2000):
        content = bytearray(whole)
        for _ in range(draw.randint(1, 3)):
            place = draw.randrange(len(content))
            content[place : place + draw.choice([0, 0, 1, 5])] = draw.choice([b"", b"0", b"\xff", b'"', b"9"])
            place = draw.randrange(len(content))
            content[place] ^= 1 << draw.randrange(8)
        path.write_bytes(content)
        try:
            read_weights(path)
        except UsageError as error:
            refused += 1
            assert str(path) in str(error)
    assert refused > 1000


@pytest.mark.parametrize(
    ("tensors", "texts", "told"),
    [
        ({"a": torch.ones(2, dtype=torch.complex64)}, {}, "got the type torch.complex64"),
        ({"__metadata__": torch.ones(2)}, {}, "the name of the texts"),
        ({3: torch.ones(2)}, {}, "got 3, allowed are texts"),
        ({"a": torch.ones(2)}, {"step": 3}, "metadata: got 3, allowed are texts"),
    ],
)
def test_what_a_file_cannot_hold_is_refused(tmp_path, tensors, texts, told):
    with pytest.raises(UsageError, match=told):
        write_weights(tmp_path / "agent.safetensors", tensors, texts)
    assert not list(tmp_path.iterdir())
