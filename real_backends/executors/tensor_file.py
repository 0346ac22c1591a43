"""One .safetensors file: its header, tensors read by byte range, and writing one. numpy only.

The format (github.com/huggingface/safetensors, README, "Format"): a little-endian u64 N, N bytes of JSON that map
each name to {dtype, shape, data_offsets: [begin, end]}, then the values without gaps; offsets count from the end of
the header, and `__metadata__` maps strings to strings. Read here rather than by the library of that name, because its
numpy side refuses bfloat16 (0.8.0), which most checkpoints are in, and because a worker must know and count the byte
ranges it needs.
"""

from __future__ import annotations

import itertools
import math
import os
from collections.abc import Mapping
from io import FileIO
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

HEADER_BYTES_MAX = 100_000_000  # the format's own limit
WIDTHS = {"F32": 4, "F16": 2, "BF16": 2}
"""Bytes of a value, by the types that can be read as float32 without loss."""


class Entry(msgspec.Struct, frozen=True):
    """Where one tensor lies; offsets count from the end of the header."""

    dtype: str
    shape: tuple[int, ...]
    data_offsets: tuple[int, int]


_entries = msgspec.json.Decoder(dict[str, msgspec.Raw])
_entry = msgspec.json.Decoder(Entry)


class TensorFile:
    """A file whose header has been read and checked; a tensor's bytes are read when it is asked for.

    Args:
        path: the file.

    Raises:
        ValueError: not a safetensors file, or a header that does not describe its bytes.
        OSError: it cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with FileIO(path) as file:
            size_bytes = os.fstat(file.fileno()).st_size
            length = int.from_bytes(_read(file, self.path, 0, min(8, size_bytes)), "little")
            if not 2 <= length <= min(HEADER_BYTES_MAX, size_bytes - 8):
                raise ValueError(f"{path.name}: not a safetensors file, its header would have {length} bytes")
            header = bytes(_read(file, self.path, 8, length))
        try:
            raw = _entries.decode(header)
            raw.pop("__metadata__", None)
            self.entries = {name: _entry.decode(one) for name, one in raw.items()}
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise ValueError(f"{path.name}: not a safetensors file, its header is malformed ({error})") from None
        self._begin = 8 + length
        self._check(size_bytes)

    def _check(self, size_bytes: int) -> None:
        ranges = sorted(entry.data_offsets for entry in self.entries.values())
        for (_, end), (begin, _) in itertools.pairwise([(0, 0), *ranges]):
            if begin != end:
                raise ValueError(f"{self.path.name}: tensors overlap or leave a gap at byte {end} of the values")
        expected = self._begin + (ranges[-1][1] if ranges else 0)
        if size_bytes != expected:
            raise ValueError(f"{self.path.name}: has {size_bytes} bytes, its header describes {expected}")
        for name, entry in self.entries.items():
            begin, end = entry.data_offsets
            width = WIDTHS.get(entry.dtype)
            fits = width is None or end - begin == width * math.prod(entry.shape)
            if begin > end or min(entry.shape, default=0) < 0 or not fits:
                raise ValueError(
                    f"{self.path.name}: tensor {name!r} of {entry.dtype} {entry.shape} has {end - begin} bytes"
                )

    def read(self, name: str) -> npt.NDArray[np.float32]:
        """The values of one tensor as float32; only its own bytes are read.

        Raises:
            ValueError: a type that float32 does not hold, or values that are not finite.
        """
        entry = self.entries[name]
        if entry.dtype not in WIDTHS:
            raise ValueError(f"{self.path.name}: tensor {name!r} is {entry.dtype}, allowed: {', '.join(WIDTHS)}")
        begin, end = entry.data_offsets
        with FileIO(self.path) as file:
            data = _read(file, self.path, self._begin + begin, end - begin)
        values: npt.NDArray[Any]
        if entry.dtype == "BF16":  # the upper half of a float32
            values = (data.view("<u2").astype(np.uint32) << 16).view(np.float32)
        else:
            values = data.view({"F32": "<f4", "F16": "<f2"}[entry.dtype]).astype(np.float32, copy=False)
        if not np.isfinite(values).all():
            raise ValueError(f"{self.path.name}: tensor {name!r} holds values that are not finite")
        return values.reshape(entry.shape)


def _read(file: FileIO, path: Path, begin: int, count: int) -> npt.NDArray[np.uint8]:
    data = np.empty(count, dtype=np.uint8)
    file.seek(begin)
    view, done = data.data, 0
    while done < count:  # one call returns 2 GiB at most
        got = file.readinto(view[done:])
        if not got:
            raise ValueError(f"{path.name}: ends at byte {begin + done}, expected {begin + count}")
        done += got
    return data


def narrow(values: npt.NDArray[np.float32], dtype: str) -> npt.NDArray[Any]:
    """The values in a stored type, rounded to the nearest, ties to even.

    Raises:
        ValueError: a type that cannot be written, or a value that becomes infinite in it.
    """
    if dtype == "F32":
        return values.astype("<f4", copy=False)
    if dtype == "F16":
        with np.errstate(over="ignore"):
            half = values.astype("<f2")
        if not np.isfinite(half).all():
            raise ValueError("dtype: F16 is not allowed, a value is above 65504")
        return half
    if dtype == "BF16":
        bits = np.ascontiguousarray(values).view(np.uint32)
        return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype("<u2")
    raise ValueError(f"dtype: {dtype!r} is not allowed, expected one of {', '.join(WIDTHS)}")


def write_tensor_file(path: Path, tensors: Mapping[str, npt.NDArray[np.float32]], dtype: str = "F32") -> None:
    """Write tensors in the mapping's order. The file appears complete or not at all.

    Raises:
        ValueError: see `narrow`.
        OSError: it cannot be written.
    """
    narrow(np.zeros(0, np.float32), dtype)
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}  # Transformers reads no file without it
    end = 0
    for name, tensor in tensors.items():
        begin, end = end, end + tensor.size * WIDTHS[dtype]
        header[name] = Entry(dtype, tensor.shape, (begin, end))
    text = msgspec.json.encode(header)
    text += b" " * (-len(text) % 8)  # values start aligned, as the library writes them
    partial = path.with_name(path.name + ".partial")
    with partial.open("wb") as file:
        file.write(len(text).to_bytes(8, "little"))
        file.write(text)
        for tensor in tensors.values():
            file.write(np.ascontiguousarray(narrow(tensor, dtype)).data)
    os.replace(partial, path)
