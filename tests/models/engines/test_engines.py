"""Tests of models.engines: sums by hand, tables at their own points, and tables that are no tables."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.interpolate import RegularGridInterpolator

from models import inference
from models.engines import KernelTables, Linear, TableError
from models.engines.kernels import Interpolated
from models.inference import Device, Shape

SHAPE = Shape("toy", 3, 8, 2, 1, 4, 16, 32)
DEVICE = Device(100.0, 1000.0, 0.5, 0.25, 0.8, 0.01, 0.1)


def test_one_stream_costs_what_the_law_of_one_stream_says() -> None:
    """A batch of decodes, and a prompt alone, take the seconds of `models.inference`."""
    law = Linear.of(SHAPE, DEVICE, 3)

    assert law.iteration_s((), 2, 30, 2) == pytest.approx(inference.decode_step_s(SHAPE, 3, DEVICE, 2, 30, head=True))
    assert law.iteration_s([(7, 5)], 0, 0, 1) == pytest.approx(inference.prefill_s(SHAPE, 3, DEVICE, 7, 5, head=True))


def test_the_sum_by_hand() -> None:
    """Five terms of a mixed iteration: 2 decodes over 30 tokens, a chunk of 4 behind 6, three that speak."""
    law = Linear(1.0, 0.1, 0.01, 0.001, 0.0001)

    assert law.iteration_s([(4, 6)], 2, 30, 3) == pytest.approx(1.0 + 0.6 + 0.36 + 0.001 * (30 + 24 + 8) + 0.0003)
    with pytest.raises(ValueError, match="token_s is -1"):
        Linear(1.0, -1.0, 0.0, 0.0, 0.0)


@given(st.floats(0.0, 3.0), st.floats(10.0, 30.0))
def test_interpolation_is_scipys_on_a_full_grid(x: float, y: float) -> None:
    """Linear in each coordinate in turn is multilinear where every branch has the same points."""
    xs, ys = np.array([0.0, 1.0, 3.0]), np.array([10.0, 15.0, 30.0])
    values = np.array([[1.0, 4.0, 2.0], [0.0, 8.0, 5.0], [3.0, 3.0, 9.0]])
    ours = Interpolated({(a, b): values[i, j] for i, a in enumerate(xs) for j, b in enumerate(ys)})

    assert ours(x, y) == pytest.approx(float(RegularGridInterpolator((xs, ys), values)((x, y))), abs=1e-12)
    assert ours(1.0, 60.0) == pytest.approx(-1.0)  # on with the last slope: -0.2 a unit


def write(folder: Path, dense: str, attention: str, per_sequence: str) -> Path:
    """Write three tables; return their prefix."""
    heads = {"dense": "layer,tokens,time_us", "attention": "prefill_chunk,kv_prefill,n_decode,kv_decode,time_us",
             "per_sequence": "layer,sequences,time_us"}  # fmt: skip
    for name, body in (("dense", dense), ("attention", attention), ("per_sequence", per_sequence)):
        (folder / f"toy_{name}.csv").write_text(heads[name] + "\n" + body)
    return folder / "toy"


DENSE = "qkv,1,10\nqkv,9,90\nlayernorm,1,1\nlayernorm,9,1\nembedding,1,5\nembedding,9,5\n"
ATTENTION = "0,0,1,16,2\n0,0,1,32,4\n0,0,2,16,3\n0,0,2,32,7\n4,0,0,0,8\n8,0,0,0,20\n4,0,1,16,9\n8,0,1,16,21\n"
HEADS = "lm_head,1,100\nlm_head,2,110\nsampler,1,1\nsampler,2,1\n"


def test_kernels_by_hand(tmp_path: Path) -> None:
    """Layers times what is in each, what is once, head and sampler; two norms a layer; one launch for all chunks."""
    law = KernelTables(write(tmp_path, DENSE, ATTENTION, HEADS), 3, overhead_s=1e-6)

    two_decodes = 3 * (20 + 2 + 5) + 5 + 111 + 1  # mean context 24: between 3 and 7
    assert law.iteration_s((), 2, 48, 2) == pytest.approx(two_decodes * 1e-6)
    beside = 3 * (50 + 2 + 9) + 5 + 101 + 1
    assert law.iteration_s([(4, 0)], 1, 16, 1) == pytest.approx(beside * 1e-6)
    chunks = 3 * (120 + 2 + 20 + (8 - 8)) + 5 + 1  # beyond the last point of tokens with its slope; nobody speaks
    assert law.iteration_s([(4, 0), (8, 0)], 0, 0, 0) == pytest.approx(chunks * 1e-6)


@pytest.mark.parametrize(
    ("dense", "attention", "heads", "message"),
    [
        ("", ATTENTION, HEADS, "no rows"),
        ("qkv,one,3\n", ATTENTION, HEADS, "line 2: tokens is 'one'; allowed: numbers from 0"),
        (DENSE, "0,0,1,16,nan\n", HEADS, "line 2: time_us is 'nan'"),
        (DENSE, "0,0,1,16,2\n", HEADS, "no rows of a chunk alone"),
    ],
)
def test_a_table_that_is_none_is_refused(tmp_path: Path, dense: str, attention: str, heads: str, message: str) -> None:
    """One line names the file, the line, the value and what is allowed."""
    with pytest.raises(TableError, match=message):
        KernelTables(write(tmp_path, dense, attention, heads), 3)


def test_a_missing_table_or_column_is_named(tmp_path: Path) -> None:
    """And so is a number of layers that no model has."""
    with pytest.raises(TableError, match=r"toy_dense\.csv\.gz: no such file"):
        KernelTables(tmp_path / "toy", 3)
    prefix = write(tmp_path, DENSE, ATTENTION, HEADS)
    with pytest.raises(ValueError, match="layers is 0"):
        KernelTables(prefix, 0)
    (tmp_path / "toy_dense.csv").write_text("layer,time_us\nqkv,3\n")
    with pytest.raises(TableError, match="no column 'tokens'; needed are layer, tokens, time_us"):
        KernelTables(prefix, 3)


def test_the_published_tables_of_an_rtx_4090_are_read(data_folder: Path) -> None:
    """A decode of Llama-3.1-8B in bf16 takes at least its 16.06 GB over the board's 1008 GB/s, and not twice that."""
    law = KernelTables(data_folder / "traces/profiles/llmservingsim_RTX4090_Llama-3.1-8B_tp1", 32)

    assert 16.06e9 / 1008e9 < law.iteration_s((), 1, 1, 1) < 2 * 16.06e9 / 1008e9


def test_a_mixture_of_experts_is_no_sum_of_five_terms() -> None:
    """Its larger batches read more weights, so it is refused by name and not taken for a dense model."""
    mixed = replace(SHAPE, name="mixed", experts=4, top_k=2)
    with pytest.raises(ValueError, match="mixed: a mixture of experts"):
        Linear.of(mixed, DEVICE, 3)
