"""Weights in safetensors files: names, shapes and numbers, and nothing that runs when it is read.

The format is eight bytes with the length of a header, the header in JSON, and the raw numbers, all little-endian:
``{"name": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]}, "__metadata__": {"key": "text"}}``. See
https://github.com/huggingface/safetensors; its package reads what is written here, and the other way round.
"""

from __future__ import annotations

import io
import itertools
import json
import math
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch

from rllib_stpn.errors import UsageError

_DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
_NAMES = {dtype: name for name, dtype in _DTYPES.items()}
_METADATA = "__metadata__"
_LENGTH = 8  # bytes that tell the header's length
_MOST_AXES = 64  # of a tensor in torch
_LONGEST_HEADER = 100_000_000  # bytes, as in other readers


def write_weights(path: str | os.PathLike, tensors: Mapping[str, Any], metadata: Mapping[str, str] = {}) -> None:
    """Writes named tensors into a safetensors file. It is written beside its place and renamed, so that it is whole.

    Args:
        path: The file.
        tensors: Tensors or NumPy arrays by their names.
        metadata: Texts by their names, for what the tensors belong to.

    Raises:
        UsageError: A name or a text that is no text, or a type of numbers that the file cannot have.
        OSError: The file cannot be written.
    """
    path = Path(path)
    where = f"weights {path}"
    _check_texts(f"{where}: metadata", metadata)
    _check_texts(where, dict.fromkeys(tensors, ""))
    if _METADATA in tensors:
        raise UsageError(f"{where}: got a tensor called {_METADATA!r}, which is the name of the texts")
    arrays = {name: torch.as_tensor(tensor).detach().cpu().contiguous() for name, tensor in tensors.items()}
    for name, tensor in arrays.items():
        if tensor.dtype not in _NAMES:
            raise UsageError(f"{where}: {name}: got the type {tensor.dtype}, allowed are {', '.join(_DTYPES)}")
    # The widest first, so that each begins at a multiple of its width, as readers that map the file want it.
    order = sorted(arrays, key=lambda name: (-arrays[name].element_size(), name))
    ends = list(itertools.accumulate(arrays[name].nbytes for name in order))
    header: dict[str, Any] = {_METADATA: dict(metadata)} if metadata else {}
    for name, begin, end in zip(order, [0, *ends], ends, strict=False):
        tensor = arrays[name]
        header[name] = {
            "dtype": _NAMES[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [begin, end],
        }
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % _LENGTH)
    part = path.with_name(f".{path.name}.part")
    try:
        with part.open("wb") as file:
            file.write(len(text).to_bytes(_LENGTH, "little") + text)
            for name in order:
                file.write(_bytes_of(arrays[name]))
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def read_weights(path: str | os.PathLike) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """Reads a safetensors file, of whomever: nothing in it is run, and what is wrong with it is found.

    Args:
        path: The file.

    Returns:
        Its tensors by their names, on the CPU, each with memory of its own; and its texts.

    Raises:
        UsageError: There is no such file, it is cut short or longer than it says, or what it says of its tensors cannot
            be: unknown types, sizes that do not fit shapes, overlaps and gaps, names that stand twice.
    """
    path = Path(path)
    if not path.is_file():
        raise UsageError(f"weights {path}: {'not a file' if path.exists() else 'no such file'}")
    try:
        with path.open("rb") as file:
            return _read(file, path.stat().st_size)
    except _Damaged as damaged:
        raise UsageError(f"weights {path}: no safetensors file, or a damaged one: {damaged}") from None
    except OSError as error:
        raise UsageError(f"weights {path}: cannot be read: {error.strerror}") from None


class _Damaged(Exception):
    """What is wrong with a file."""


def _read(file: io.BufferedReader, size: int) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    if size < _LENGTH:
        raise _Damaged(f"it has {size} bytes, where its header's length takes {_LENGTH}")
    length = int.from_bytes(file.read(_LENGTH), "little")
    if length > min(_LONGEST_HEADER, size - _LENGTH):
        raise _Damaged(f"its header is said to have {length:,} bytes, the file has {size:,}")
    header = _header(file.read(length))
    texts = header.pop(_METADATA, {})
    if not isinstance(texts, dict):
        raise _Damaged(f"{_METADATA} is no mapping")
    _check_texts(f"{_METADATA} in it", texts, _Damaged)
    entries = sorted((_entry(name, entry) for name, entry in header.items()), key=lambda entry: entry[:2])
    place = 0
    for begin, end, name, *_ in entries:
        if begin != place:
            raise _Damaged(f"{name!r} begins at {begin:,}, where the one before it ends at {place:,}")
        place = end
    if place != size - _LENGTH - length:
        raise _Damaged(f"its tensors have {place:,} bytes together, {size - _LENGTH - length:,} are there")
    tensors = {}
    for begin, end, name, dtype, shape in entries:
        tensor = torch.empty(end - begin, dtype=torch.uint8)
        if file.readinto(_bytes_of(tensor)) != end - begin:
            raise _Damaged(f"{name!r} is cut short")
        if dtype == torch.bool and bool((tensor > 1).any()):
            raise _Damaged(f"{name!r} has bytes that are neither true nor false")
        tensors[name] = tensor.view(dtype).reshape(shape)
    return {name: tensors[name] for name in header}, texts


def _header(text: bytes) -> dict[str, Any]:
    try:
        header = json.loads(text.decode(), object_pairs_hook=_once)
    except (ValueError, RecursionError) as error:
        raise _Damaged(f"its header is no JSON ({' '.join(str(error).split())})") from None
    if not isinstance(header, dict):
        raise _Damaged("its header is no mapping")
    _check_texts("its header", dict.fromkeys(header, ""), _Damaged)
    return header


def _once(pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise _Damaged(f"{key!r} stands twice in its header")
        found[key] = value
    return found


def _entry(name: str, entry: Any) -> tuple[int, int, str, torch.dtype, list[int]]:
    """Where a tensor begins and ends in the numbers, its name, type and shape."""
    if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
        raise _Damaged(f"{name!r} needs dtype, shape and data_offsets, and nothing else")
    if not isinstance(entry["dtype"], str) or entry["dtype"] not in _DTYPES:
        raise _Damaged(f"{name!r} has the type {entry['dtype']!r}, allowed are {', '.join(_DTYPES)}")
    dtype, shape, offsets = _DTYPES[entry["dtype"]], entry["shape"], entry["data_offsets"]
    for what, numbers in (("shape", shape), ("data_offsets", offsets)):
        if not isinstance(numbers, list) or not all(type(number) is int and number >= 0 for number in numbers):
            raise _Damaged(f"{name!r} has the {what} {numbers!r}, allowed are lists of whole numbers")
    if len(shape) > _MOST_AXES or max(shape, default=0) >= 2**63:  # beside a zero, where the bytes cannot tell
        raise _Damaged(f"{name!r} has a shape that no tensor can have")
    if len(offsets) != 2 or offsets[1] - offsets[0] != math.prod(shape) * dtype.itemsize:
        raise _Damaged(f"{name!r} has the data_offsets {offsets}, which do not fit the shape {shape} of {dtype}")
    return offsets[0], offsets[1], name, dtype, shape


def _check_texts(where: str, texts: Mapping[Any, Any], error: type[Exception] = UsageError) -> None:
    for text in itertools.chain(texts, texts.values()):
        try:
            text.encode()
        except (AttributeError, UnicodeEncodeError):
            raise error(f"{where}: got {text!r}, allowed are texts") from None


def _bytes_of(tensor: torch.Tensor) -> memoryview:
    return memoryview(tensor.reshape(-1).view(torch.uint8).numpy())  # type: ignore[arg-type]
