"""Activations as frames: nothing changes or is copied on the way, what a coding costs, and what is refused."""

from __future__ import annotations

import tracemalloc
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.wire import encode
from real_backends import executors as ex
from real_backends.executors.activation import Activation
from real_backends.transports.frames import STAGE, pack, pieces

decode = msgspec.msgpack.Decoder(Activation).decode


def sent(array: np.ndarray, coding: str = "f32") -> np.ndarray:
    return ex.unpack_activation(decode(encode(ex.pack_activation(array, coding))))


@given(
    shape=st.one_of(st.tuples(st.integers(0, 9)), st.tuples(st.integers(0, 9), st.integers(0, 9))),
    kind=st.sampled_from([np.float32, np.int64]),
    seed=st.integers(0, 99),
)
def test_activations_survive_the_wire(shape: tuple[int, ...], kind: type, seed: int) -> None:
    """Unpacking what was packed gives the same bits, shape and type, also of arrays that are not contiguous."""
    array = (np.random.Generator(np.random.PCG64(seed)).standard_normal(shape) * 1e4).astype(kind)
    for one in (array, array[::2], array.T):
        again = sent(one)

        assert again.dtype == one.dtype
        np.testing.assert_array_equal(again, one)


def test_activation_bytes_are_fixed() -> None:
    """The layout is the documented one, little endian, whatever machine packs it."""
    array = np.array([[1.0, -2.0]])

    assert encode(ex.pack_activation(array.astype(">f4"))).hex() == "94a3663332920102c4080000803f000000c0c400"
    assert encode(ex.pack_activation(array.astype("<f4"), "f16")).hex() == "94a3663136920102c404003c00c0c400"
    assert encode(ex.pack_activation(array.astype("<f4"), "int8")).hex() == "94a4696e7438920102c4024081c4040402813c"


def test_a_large_activation_is_copied_once_on_its_way() -> None:
    """Between the array and the pieces for the socket there is one copy, the message; arriving needs none."""
    array = np.zeros((2048, 2048), np.float32)
    tracemalloc.start()
    try:
        frame = pieces(STAGE, encode(ex.pack_activation(array)))
        sending = tracemalloc.get_traced_memory()[1]
        tracemalloc.reset_peak()
        before = tracemalloc.get_traced_memory()[0]
        arrived = ex.unpack_activation(decode(frame[1]))
        arriving = tracemalloc.get_traced_memory()[1] - before
    finally:
        tracemalloc.stop()

    assert np.shares_memory(np.frombuffer(frame[1], np.uint8), arrived)
    assert sending < 1.6 * array.nbytes  # the encoder's buffer grows by halves
    assert arriving < 0.3 * array.nbytes  # a bool a value while it is checked for being finite
    assert b"".join(frame) == pack(STAGE, frame[1])
    assert len(pieces(STAGE, b"short")) == 1


@given(seed=st.integers(0, 999), spread=st.floats(0.0, 3.0))
def test_a_lossy_coding_errs_within_its_law(seed: int, spread: float) -> None:
    """float16 errs by 2^-11 of a value, int8 by half a level of its row, in a half and a quarter of the bytes."""
    draw = np.random.Generator(np.random.PCG64(seed))
    array = (draw.standard_normal((5, 64)) * 10.0 ** draw.uniform(-spread, spread, (5, 1))).astype(np.float32)
    half, coarse = sent(array, "f16"), sent(array, "int8")

    assert (np.abs(half - array) <= np.maximum(np.abs(array) * 2.0**-11, 2.0**-25) * 1.0001).all()
    assert (np.abs(coarse - array) <= np.abs(array).max(axis=1, keepdims=True) / 254 * 1.001).all()
    frames = [ex.pack_activation(array, coding) for coding in ex.CODINGS]
    assert [frame.values.nbytes + frame.scales.nbytes for frame in frames] == [1280, 640, 340]


def test_what_no_coding_can_hold_goes_as_it_is() -> None:
    """A value past float16's range makes its frame float32; token ids and logits are never rounded."""
    large = np.array([[7e4, 1e-3]], np.float32)
    ids = np.array([2**40])

    assert ex.pack_activation(large, "f16").coding == "f32"
    np.testing.assert_array_equal(sent(large, "f16"), large)
    np.testing.assert_array_equal(sent(ids, "int8"), ids)
    np.testing.assert_array_equal(sent(large[0], "int8"), large[0])
    assert ex.coding_error(np.array([[1.0, 2.0]], np.float32), "f32") == 0.0


@given(
    coding=st.sampled_from(["f32", "i64", "f16", "int8", "f64"]),
    shape=st.lists(st.integers(-1, 4), max_size=3).map(tuple),
    values=st.binary(max_size=40),
    scales=st.binary(max_size=12),
)
def test_hostile_frames_are_refused_with_one_kind_of_error(
    coding: str, shape: tuple[int, ...], values: bytes, scales: bytes
) -> None:
    """Any frame from a peer either decodes to finite values of its shape or raises ValueError, nothing else."""
    frame = decode(encode(Activation(coding, shape, memoryview(values), memoryview(scales))))
    try:
        array = ex.unpack_activation(frame)
    except ValueError:
        return
    assert array.shape == shape
    assert np.isfinite(array).all()


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        (("f64", (1,), b"", b""), "coding 'f64' is unknown"),
        (("f32", (), b"", b""), "shape"),
        (("f32", (1, -1), b"", b""), "shape"),
        (("f32", (2**20, 2**10), b"", b""), "claims"),
        (("f32", (2,), bytes(4), b""), "4 bytes of values, shape \\(2,\\) needs 8"),
        (("int8", (2, 1), bytes(2), bytes(4)), "4 bytes of scales, shape \\(2, 1\\) needs 8"),
        (("f32", (1,), b"\x00\x00\xc0\x7f", b""), "not finite"),
        (("int8", (1, 1), b"\x01", b"\x00\x00\xc0\x7f"), "not finite"),
    ],
)
def test_a_bad_frame_says_what_is_wrong(frame: tuple[Any, ...], message: str) -> None:
    """Each way an activation can be malformed has its own clear message."""
    coding, shape, values, scales = frame
    with pytest.raises(ValueError, match=message):
        ex.unpack_activation(Activation(coding, shape, memoryview(values), memoryview(scales)))


def test_what_cannot_be_sent_is_refused() -> None:
    """Other types, dimensions, sizes and codings are named."""
    for call, message in [
        (lambda: ex.pack_activation(np.zeros(3)), "type float64"),
        (lambda: ex.pack_activation(np.zeros((1, 1, 1), np.float32)), "3 dimensions"),
        (lambda: ex.pack_activation(np.zeros((1, 1), np.float32), "int4"), "coding 'int4' is not allowed"),
        (lambda: ex.pack_activation(np.zeros((2**13, 2**12), np.float32)), "bytes are not allowed"),
    ]:
        with pytest.raises(ValueError, match=message):
            call()
