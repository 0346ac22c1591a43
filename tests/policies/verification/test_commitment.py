"""What a commitment binds to: the challenge comes from what was decided later, and only the committed leaves pass."""

from __future__ import annotations

from collections import Counter
from typing import Any

import msgspec
import numpy as np
import pytest

from models.inference.tolerances import Tolerance
from policies.verification import (
    Challenge,
    Commitment,
    Opening,
    Recomputed,
    cache_leaf,
    draw_challenge,
    follows,
    hash_leaf,
    judge,
    leaf_of,
    path_to,
    root_of,
    tokens_digest,
)
from policies.verification.commitment import CACHE_LEAF_BYTES_MAX
from policies.verification.verdict import read_cache_leaf
from policies.wire import encode

POSITIONS, LAYERS, WIDTH, KV = 40, 2, 24, 8
LOOSE = Tolerance(0.01, 0.01)
RIGHT = np.random.default_rng(1).standard_normal((POSITIONS, WIDTH)).astype(np.float32)
CACHE = np.random.default_rng(2).standard_normal((LAYERS, 2, POSITIONS, KV)).astype(np.float32)


def bind(outputs: np.ndarray, cache: np.ndarray) -> tuple[Commitment, dict[Challenge, Opening]]:
    """Commit by hand to layers [3, 5) of a session of 40 positions, and open everything."""
    blocks = [slice(0, 16), slice(16, 32), slice(32, 40)]
    draft = Commitment("s", "torch fp32", tokens_digest(np.arange(41)), 3, 5, POSITIONS, 0, b"", b"", b"", b"")
    sketches = [leaf_of(draft.context, outputs[at]) for at in blocks]
    kv = [cache_leaf(*layer[:, at], "fp32") for layer in cache for at in blocks]
    hashes = [[hash_leaf(leaf) for leaf in leaves] for leaves in ([s[:32] for s in sketches], sketches, kv)]
    roots = dict(zip(("outputs", "sketches", "cache"), map(root_of, hashes), strict=True))
    commitment = msgspec.structs.replace(draft, **roots)
    return commitment, {
        Challenge(b, layer): Opening(
            sketches[b], path_to(hashes[1], b), path_to(hashes[0], b),
            kv[3 * layer + b], path_to(hashes[2], 3 * layer + b),
        )
        for b in range(3)
        for layer in range(LAYERS)
    }  # fmt: skip


def truth(challenge: Challenge) -> Recomputed:
    """What an honest second worker finds."""
    at = slice(16 * challenge.block, min(16 * challenge.block + 16, POSITIONS))
    return Recomputed(RIGHT[at], *CACHE[challenge.layer][:, at])


def test_an_honest_opening_passes_everywhere_and_no_other_fits_its_place() -> None:
    """Each opening passes at its own challenge; at any other place it is not what was committed to."""
    commitment, openings = bind(RIGHT, CACHE)
    for asked in openings:
        for shown, opening in openings.items():
            verdict = judge(commitment, asked, opening, truth(asked), LOOSE)

            assert verdict.word == ("honest" if asked == shown else "opening")


def test_false_outputs_caches_and_tokens_are_told_apart() -> None:
    """The verdict names what differed."""
    asked = Challenge(1, 1)
    commitment, openings = bind(RIGHT * np.float32(1.1), CACHE)
    assert judge(commitment, asked, openings[asked], truth(asked), LOOSE).word == "outputs"
    commitment, openings = bind(RIGHT, CACHE * np.float32(1.1))
    assert judge(commitment, asked, openings[asked], truth(asked), LOOSE).word == "cache"
    commitment, openings = bind(RIGHT, CACHE)
    short = truth(asked)._replace(deficit=0.5)
    assert judge(commitment, asked, openings[asked], short, LOOSE).word == "tokens"


def test_a_right_sketch_with_another_blocks_digest_does_not_pass() -> None:
    """A liar that sends one thing on and sketches another has two digests, and the trees hold one each."""
    honest, openings = bind(RIGHT, CACHE)
    false, _ = bind(RIGHT + np.float32(1), CACHE)
    mixed = msgspec.structs.replace(honest, outputs=false.outputs)
    asked = Challenge(0, 0)

    assert judge(mixed, asked, openings[asked], truth(asked), LOOSE).word == "opening"


def test_neighbours_agree_bit_for_bit_or_one_of_them_lies() -> None:
    """What left one stage is what came to the next: same session, tokens, layer, and root."""
    left, _ = bind(RIGHT, CACHE)
    right = msgspec.structs.replace(left, first=5, last=8, inputs=left.outputs)

    assert follows(left, right)
    for change in ({"inputs": left.cache}, {"first": 4}, {"tokens": b""}, {"positions": 39}, {"session": "t"}):
        assert not follows(left, msgspec.structs.replace(right, **change))


def test_every_place_is_drawn_equally_often_and_every_secret_draws_anew() -> None:
    """Challenges are uniform over blocks with an output and layers; the first blocks of a last stage are left out."""
    commitment, _ = bind(RIGHT, CACHE)
    late = msgspec.structs.replace(commitment, output_from=20)
    drawn = Counter(draw_challenge(n.to_bytes(16, "big"), commitment) for n in range(3000))

    assert len(drawn) == 6
    assert all(abs(count - 500) < 100 for count in drawn.values())
    assert {draw_challenge(n.to_bytes(16, "big"), late).block for n in range(50)} == {1, 2}


def test_a_commitment_is_small_and_a_secret_long() -> None:
    """A commitment has a size that agreement can bear; a guessable secret and an empty session are refused."""
    commitment, _ = bind(RIGHT, CACHE)

    assert len(encode(commitment)) < 300
    with pytest.raises(ValueError, match="secret: 8 bytes, allowed are 16 or more"):
        draw_challenge(b"12345678", commitment)
    with pytest.raises(ValueError, match="no position or no layer"):
        draw_challenge(bytes(16), msgspec.structs.replace(commitment, positions=0))


@pytest.mark.parametrize(("dtype", "bits"), [("fp32", 24), ("int8", 24), ("fp16", 11), ("bf16", 8)])
def test_caches_travel_in_their_own_format_without_loss(dtype: str, bits: int) -> None:
    """Values of the executor's format come back exactly, two bytes a number in the narrow ones."""
    mantissa, exponent = np.frexp(CACHE[0])
    values = np.ldexp(np.round(mantissa * 2.0**bits) / 2.0**bits, exponent).astype(np.float32)
    leaf = cache_leaf(*values, dtype)

    assert len(leaf) == values.size * (2 if bits < 24 else 4)
    assert np.array_equal(np.stack(read_cache_leaf(leaf, dtype, values.shape[1:])), values)


def test_an_opening_that_cannot_be_read_is_guilty() -> None:
    """Numbers that are not finite, or leaves too short, are no excuse, though they were committed to."""
    broken = CACHE.copy()
    broken[0, 0, 0, 0] = np.nan
    commitment, openings = bind(RIGHT, broken)

    assert (
        judge(commitment, Challenge(0, 0), openings[Challenge(0, 0)], truth(Challenge(0, 0)), LOOSE).word == "opening"
    )


@pytest.mark.parametrize(
    "grown", [{"cache": bytes(33)}, {"inputs": b""}, {"tokens": bytes(10**6)}, {"executor": "x" * 65}]
)
def test_a_word_that_would_fill_the_log_does_not_arrive(grown: dict[str, Any]) -> None:
    """Every field that a worker makes up has a length; what it says of the session is compared (`Check.fits`)."""
    commitment = msgspec.structs.replace(bind(RIGHT, CACHE)[0], inputs=root_of(()))
    assert msgspec.msgpack.decode(encode(commitment), type=Commitment) == commitment

    with pytest.raises(msgspec.ValidationError):
        msgspec.msgpack.decode(encode(msgspec.structs.replace(commitment, **grown)), type=Commitment)


@pytest.mark.parametrize(
    "grown",
    [{"cache": bytes(CACHE_LEAF_BYTES_MAX + 1)}, {"sketch": bytes(2000)}, {"cache_path": (bytes(32),) * 65},
     {"output_path": (bytes(33),)}],
)  # fmt: skip
def test_an_opening_that_is_larger_than_any_does_not_arrive(grown: dict[str, Any]) -> None:
    """The leader holds it, and hands it on: what a liar committed to is no reason to carry it about."""
    _, openings = bind(RIGHT, CACHE)
    opening = openings[Challenge(0, 0)]
    assert msgspec.msgpack.decode(encode(opening), type=Opening) == opening

    with pytest.raises(msgspec.ValidationError):
        msgspec.msgpack.decode(encode(msgspec.structs.replace(opening, **grown)), type=Opening)
