"""The executors' edges: text as tokens, and what is refused, in which words."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

torch = pytest.importorskip("torch", reason="torch is not installed")
jax = pytest.importorskip("jax", reason="jax is not installed")

from real_backends import executors as ex  # noqa: E402  (needs torch and jax)
from real_backends.executors.__main__ import main  # noqa: E402
from real_backends.executors.certificate import MARGIN_MIN  # noqa: E402
from real_backends.executors.reference import reference_generate  # noqa: E402
from real_backends.executors.shard import SESSIONS_MAX  # noqa: E402

WEIGHTS = ex.make_checkpoint(ex.DESK_TINY, ex.DEFAULT_SEED)
TINY = replace(ex.DESK_TINY, name="two-layers", layers=2, context=64)


def shard(backend: str, first: int, last: int) -> ex.Shard:
    return ex.make_shard(backend, ex.DESK_TINY, WEIGHTS, first, last, device="cpu")


@given(text=st.text())
def test_text_survives_the_tokenizer(text: str) -> None:
    """Decoding an encoded text without its first special gives the text; every id fits the vocabulary."""
    tokens = ex.encode(text)

    assert ex.decode(tokens[1:]) == text
    assert all(0 <= token < ex.DESK_TINY.vocab for token in tokens)
    assert ex.decode([104, 511, 105]) == "h\ufffdi"


@pytest.mark.parametrize("backend", ["torch", "jax"])
def test_misuse_of_a_shard_is_one_clear_line(backend: str) -> None:
    """Gaps, wrong types, wrong shapes and unknown tokens are refused and leave the session as it was."""
    one, middle = shard(backend, 0, 8), shard(backend, 3, 5)
    ids = np.array([1, 2, 3])
    before = one.forward("s", ids, 0)
    for x, position, message in [
        (ids, 4, "position: 4 is not allowed, session 's' holds 3 tokens"),
        (ids, -1, "position: -1"),
        (ids.astype(np.int32), 3, "expected int64"),
        (np.array([512]), 3, "token 512..512 is not allowed"),
        (np.array([], dtype=np.int64), 3, "n >= 1"),
        (np.zeros(254, np.int64), 3, "257 tokens are not allowed, at most 256"),
    ]:
        with pytest.raises(ValueError, match=message):
            one.forward("s", x, position)
    with pytest.raises(ValueError, match=r"expected float32 \[n, 128\]"):
        middle.forward("s", np.zeros((1, 64), np.float32), 0)

    np.testing.assert_allclose(one.forward("s", ids[2:], 2), before, atol=1e-4)
    assert (one.sessions(), middle.sessions()) == (1, 0)
    one.forward("s", ids[:1], 0)  # starting over forgets the rest
    with pytest.raises(ValueError, match="holds 1 tokens"):
        one.forward("s", ids[:1], 2)
    one.drop("s")
    one.drop("s")
    assert one.sessions() == 0


def test_a_flood_of_sessions_is_refused() -> None:
    """The session past the limit is refused, the others stay, and a drop makes room again."""
    one = ex.make_shard("torch", TINY, ex.make_checkpoint(TINY, 0), 0, 2, device="cpu")
    for index in range(SESSIONS_MAX):
        one.forward(f"s{index}", np.array([1]), 0)
    with pytest.raises(ex.SessionsFull, match="64 sessions are taken"):
        one.forward("late", np.array([1]), 0)
    one.drop("s0")
    one.forward("late", np.array([1]), 0)

    assert one.sessions() == SESSIONS_MAX


def test_a_shard_needs_only_its_own_tensors() -> None:
    """A shard is built from its part of the checkpoint; a missing or misshapen tensor is named."""
    part = ex.shard_weights(ex.DESK_TINY, WEIGHTS, 2, 4)
    ex.make_shard("torch", ex.DESK_TINY, part, 2, 4, device="cpu")

    assert len(part) == 18
    with pytest.raises(ValueError, match=r"tensor 'layers\.4\.attn_norm' is missing"):
        ex.make_shard("torch", ex.DESK_TINY, part, 2, 5, device="cpu")
    with pytest.raises(ValueError, match=r"'layers\.2\.q' is float32 \(2, 2\), expected float32 \(128, 128\)"):
        ex.shard_weights(ex.DESK_TINY, part | {"layers.2.q": np.zeros((2, 2), np.float32)}, 2, 4)


def test_wrong_arguments_are_named() -> None:
    """Wrong cuts, backends, devices, sizes and seeds are refused with field, value and what is allowed."""
    t03, t38 = shard("torch", 0, 3), shard("torch", 3, 8)
    for call, message in [
        (lambda: ex.make_shard("tpu", ex.DESK_TINY, WEIGHTS, 0, 8), "backend: 'tpu'"),
        (lambda: ex.make_shard("torch", ex.DESK_TINY, WEIGHTS, 5, 5), r"layers \[5, 5\)"),
        (lambda: ex.make_shard("torch", ex.DESK_TINY, WEIGHTS, 0, 9), r"layers \[0, 9\)"),
        (lambda: ex.make_shard("torch", ex.DESK_TINY, WEIGHTS, 0, 8, threads=0), "threads: 0"),
        (lambda: ex.make_shard("torch", ex.DESK_TINY, WEIGHTS, 0, 8, device="npu"), "device: 'npu'"),
        (lambda: ex.make_shard("jax", ex.DESK_TINY, WEIGHTS, 0, 8, device="npu"), "device: 'npu'"),
        (lambda: ex.Pipeline([t03]), "end at the last layer"),
        (lambda: ex.Pipeline([t38]), "start at layer 0"),
        (lambda: ex.Pipeline([t03, shard("torch", 4, 8)]), "cannot be followed"),
        (lambda: replace(TINY, kv_heads=3), "kv_heads: 3"),
        (lambda: replace(TINY, head_dim=5), "head_dim: 5"),
        (lambda: replace(TINY, layers=0), "layers: 0"),
        (lambda: replace(TINY, norm_eps=float("nan")), "norm_eps: nan"),
        (lambda: ex.ModelSpec.from_dict({"name": "x"}), "unknown or missing"),
        (lambda: ex.make_checkpoint(TINY, -1), "seed: -1"),
        (lambda: reference_generate(ex.DESK_TINY, WEIGHTS, [], 1), "prompt"),
        (lambda: reference_generate(ex.DESK_TINY, WEIGHTS, [1], 256), "exceed the context"),
    ]:
        with pytest.raises(ValueError, match=message):
            call()


@pytest.mark.parametrize("backend", ["torch", "jax"])
def test_a_missing_framework_says_how_to_get_it(backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without torch or jax, asking for its shard is one line that names the extra to install."""
    monkeypatch.setitem(sys.modules, backend, None)
    monkeypatch.delitem(sys.modules, f"real_backends.executors.{backend}_shard")
    with pytest.raises(ex.ExecutorUnavailable, match=rf"pip install 'villagetwin\[{backend}\]'"):
        ex.make_shard(backend, ex.DESK_TINY, WEIGHTS, 0, 8)


@pytest.mark.parametrize("backend", ["torch", "jax"])
def test_a_framework_that_does_not_load_is_as_good_as_missing(backend: str, broken: Callable[[str], None]) -> None:
    """One that is installed and raises is one line as well, with what it said."""
    broken(backend)
    with pytest.raises(ex.ExecutorUnavailable, match=rf"another version.*villagetwin\[{backend}\]"):
        ex.make_shard(backend, ex.DESK_TINY, WEIGHTS, 0, 8)


@pytest.mark.skipif(torch.cuda.is_available(), reason="a CUDA device is present")
@pytest.mark.parametrize("backend", ["torch", "jax"])
def test_a_missing_device_is_unavailable(backend: str) -> None:
    """Asking for CUDA where there is none is the same kind of error as a missing framework."""
    with pytest.raises(ex.ExecutorUnavailable, match="device 'cuda' is not present"):
        ex.make_shard(backend, ex.DESK_TINY, WEIGHTS, 0, 8, device="cuda")


def test_importing_the_package_imports_no_framework() -> None:
    """The package is light: its import brings in neither torch nor jax nor scipy."""
    code = "import sys, real_backends.executors; print(sorted({'torch', 'jax', 'scipy'} & set(sys.modules)))"
    root = Path(__file__).resolve().parents[2]
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=root)

    assert result.stdout.strip() == "[]"


def test_the_command_refuses_a_narrow_margin(capsys: pytest.CaptureFixture[str]) -> None:
    """Certifying seed 0, whose margin is too small, prints the certificate and ends with code 4."""
    code = main(["--seed", "0"])
    printed = capsys.readouterr()

    assert code == 4
    assert json.loads(printed.out)["margin_min"] < MARGIN_MIN
    assert "margin_min" in printed.err


def test_threads_hold_although_jax_was_imported_before() -> None:
    """Whoever asks whether JAX loads imports it, and computes nothing: the first shard still decides."""
    code = (
        "import jax; from real_backends import executors as ex; "
        "print(ex.make_shard('jax', ex.DESK_TINY, ex.make_checkpoint(ex.DESK_TINY, 1), 0, 8, threads=3).threads)"
    )
    told = {name: text for name, text in os.environ.items() if name != "NPROC"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=told)
    assert done.stdout == "3\n"
