"""Checkpoints in the layout of the Llama family: what is written, what is read of it, and what is refused."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from io import FileIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from real_backends import executors as ex
from real_backends.executors import llama_layout, tensor_file
from real_backends.executors.spec import rope_table, tensor_shapes

SPEC = ex.ModelSpec("four", layers=4, hidden=16, heads=4, kv_heads=2, head_dim=4, ffn=24, vocab=40, context=64)
WEIGHTS = ex.make_checkpoint(SPEC, 3)
LAYER = {
    "input_layernorm.weight": (16,),
    "self_attn.q_proj.weight": (16, 16),
    "self_attn.k_proj.weight": (8, 16),
    "self_attn.v_proj.weight": (8, 16),
    "self_attn.o_proj.weight": (16, 16),
    "post_attention_layernorm.weight": (16,),
    "mlp.gate_proj.weight": (24, 16),
    "mlp.up_proj.weight": (24, 16),
    "mlp.down_proj.weight": (16, 24),
}


def saved(folder: Path, spec: ex.ModelSpec = SPEC, **how: Any) -> Path:
    ex.save_checkpoint(folder / spec.name, spec, ex.make_checkpoint(spec, 3), **how)
    return folder / spec.name


def change_config(folder: Path, **fields: Any) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({k: v for k, v in {**config, **fields}.items() if v != "gone"}))


def test_names_and_shapes_are_those_of_the_llama_family(tmp_path: Path) -> None:
    """The files hold the published names, [output, input] matrices, and what config.json says."""
    folder = saved(tmp_path)
    entries = tensor_file.TensorFile(folder / "model.safetensors").entries

    expected = {f"model.layers.{n}.{part}": shape for n in range(4) for part, shape in LAYER.items()}
    expected |= {"model.embed_tokens.weight": (40, 16), "model.norm.weight": (16,), "lm_head.weight": (40, 16)}
    assert {name: entry.shape for name, entry in entries.items()} == expected
    config = json.loads((folder / "config.json").read_text())
    assert (config["architectures"], config["num_key_value_heads"]) == (["LlamaForCausalLM"], 2)


@pytest.mark.parametrize("files", [1, 3])
def test_a_checkpoint_comes_back_bit_for_bit(tmp_path: Path, files: int) -> None:
    """Shape and every tensor are what was written, from one file or several with an index; none is half-written."""
    spec = replace(SPEC, tied_head=True, qkv_bias=True, rope_theta=5e5, rope_scaling=ex.RopeScaling(8.0, 1.0, 4.0, 32))
    folder = saved(tmp_path, spec, files=files)

    again, weights = ex.open_checkpoint(folder)

    assert again == spec
    assert len(list(folder.glob("*.safetensors"))) == files
    assert (folder / "model.safetensors.index.json").exists() == (files > 1)
    assert not list(folder.glob("*.partial"))
    assert ex.checkpoint_digest(again, weights) == ex.checkpoint_digest(spec, ex.make_checkpoint(spec, 3))


@pytest.mark.parametrize(("dtype", "bits"), [("F16", 11), ("BF16", 8)])
def test_narrow_types_are_rounded_to_the_nearest(tmp_path: Path, dtype: str, bits: int) -> None:
    """A value stored in a type of so many significant bits is off by half a unit of its last place at most."""
    _, weights = ex.open_checkpoint(saved(tmp_path, dtype=dtype))
    for name, tensor in WEIGHTS.items():
        error = np.abs(np.asarray(weights[name]) - tensor)
        assert (error <= np.maximum(np.abs(tensor), 2.0**-14) * 2.0**-bits).all(), name  # 2^-14: F16's smallest normal

    assert tensor_file.narrow(np.float32([1 + 2**-8, 1 + 3 * 2**-8]), "BF16").tolist() == [0x3F80, 0x3F82]  # to even


@pytest.mark.parametrize("files", [1, 3])
@pytest.mark.parametrize(("first", "last"), [(0, 1), (1, 3), (3, 4)])
def test_only_a_shards_own_bytes_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, first: int, last: int, files: int
) -> None:
    """A shard reads headers and its own tensors: counted at the file, byte by byte."""
    folder = saved(tmp_path, files=files)
    read: dict[int, int] = {}  # position in a file to how often it was read, over all files

    class Counting(FileIO):
        def readinto(self, buffer: Any) -> int | None:
            begin, got = self.tell(), super().readinto(buffer)
            for at in range(begin, begin + (got or 0)):
                read[at, str(self.name)] = read.get((at, str(self.name)), 0) + 1
            return got

    monkeypatch.setattr(tensor_file, "FileIO", Counting)
    spec, weights = ex.open_checkpoint(folder)
    headers = len(read)
    part = ex.shard_weights(spec, weights, first, last)
    headers = len(read) - headers
    values = {name: np.asarray(tensor) for name, tensor in part.items()}

    own_bytes = 4 * sum(math.prod(shape) for shape in tensor_shapes(SPEC, first, last).values())
    assert sum(read.values()) - headers == own_bytes == sum(value.nbytes for value in values.values())
    assert set(read.values()) == {1}
    assert all(np.array_equal(value, WEIGHTS[name]) for name, value in values.items())


def test_a_shard_needs_only_the_files_that_hold_its_layers(tmp_path: Path) -> None:
    """With an index, files of other layers may be absent; a missing file of its own is named."""
    folder = saved(tmp_path, files=4)
    files = json.loads((folder / "model.safetensors.index.json").read_text())["weight_map"]
    needed = {files[f"model.layers.1.{part}"] for part in LAYER}
    for file in set(files.values()) - needed:
        (folder / file).unlink()
    spec, weights = ex.open_checkpoint(folder)

    assert len(ex.shard_weights(spec, weights, 1, 2)) == len(LAYER)
    with pytest.raises(ValueError, match=r"checkpoint four: file 'model-0000\d-of-00004.safetensors' is missing"):
        ex.shard_weights(spec, weights, 0, 4)


def break_tensor(folder: Path, change: Callable[[dict[str, np.ndarray]], None]) -> None:
    tensors = {llama_layout.stored_name(name): tensor for name, tensor in WEIGHTS.items()}
    change(tensors)
    tensor_file.write_tensor_file(folder / "model.safetensors", tensors)


def swap(file: Path, old: bytes, new: bytes) -> None:
    file.write_bytes(file.read_bytes().replace(old, new, 1))


Q1 = "model.layers.1.self_attn.q_proj.weight"


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda f: (f / "config.json").unlink(), "config.json is missing"),
        (lambda f: (f / "config.json").write_text("{"), "config.json is not JSON"),
        (lambda f: (f / "config.json").write_text("[]"), "config.json is not a JSON object"),
        (lambda f: change_config(f, architectures=["GPT2LMHeadModel"]), "'GPT2LMHeadModel' is unknown, allowed: Llama"),
        (lambda f: change_config(f, architectures=None), "architecture 'none' is unknown"),
        (lambda f: change_config(f, hidden_size="gone"), "config.json has no field 'hidden_size'"),
        (lambda f: change_config(f, num_key_value_heads=3), "kv_heads: 3 is not allowed"),
        (lambda f: change_config(f, num_attention_heads=0), "config.json"),
        (lambda f: change_config(f, hidden_act="gelu"), "only hidden_act=silu"),
        (lambda f: change_config(f, attention_bias=True), "attention_bias=true of LlamaForCausalLM"),
        (lambda f: change_config(f, rope_scaling={"rope_type": "yarn"}), "rope_type 'yarn' is unknown"),
        (lambda f: change_config(f, rope_scaling={"rope_type": "llama3"}), "no field 'factor'"),
        (lambda f: change_config(f, rope_scaling=5), "rope_scaling: 5 is not allowed, expected an object or null"),
        (lambda f: change_config(f, architectures=[["Llama"]]), "architecture .* is unknown"),
        (lambda f: change_config(f, num_hidden_layers=10**9), "layers: 1000000000 is not allowed, at most 1024"),
        (lambda f: change_config(f, max_position_embeddings=float("inf")), "config.json: cannot convert"),
        (lambda f: (f / "config.json").write_text("[" * 100_000), "config.json is not JSON"),
        (lambda f: change_config(f, num_hidden_layers=5), r"tensor 'layers.4.attn_norm' is missing"),
        (lambda f: change_config(f, vocab_size=41), r"'embed' is float32 \(40, 16\), expected float32 \(41, 16\)"),
        (lambda f: (f / "model.safetensors").unlink(), "neither model.safetensors nor"),
        (lambda f: (f / "model.safetensors").write_bytes(b"x"), "not a safetensors file"),
        (lambda f: (f / "model.safetensors").write_bytes(b"PK\3\4" * 9), "not a safetensors file"),
        (
            lambda f: swap(f / "model.safetensors", b'"F32"', b'"I4" '),
            r"^checkpoint \w+: tensor 'model.*' is I4, allowed: F32, F16, BF16",
        ),
        (lambda f: break_tensor(f, lambda t: t.pop(Q1)), "tensor 'layers.1.q' is missing"),
        (lambda f: break_tensor(f, lambda t: t.update({Q1: t[Q1][:8]})), r"is float32 \(8, 16\), expected"),
        (lambda f: break_tensor(f, lambda t: t.update({Q1: t[Q1] * np.float32("nan")})), "not finite"),
        (lambda f: (f / "model.safetensors.index.json").write_text('{"weight_map": {"a": "../b"}}'), "no weight_map"),
        (lambda f: (f / "model.safetensors.index.json").write_text('{"weight_map": {}}'), "'embed' is missing"),
    ],
)
def test_a_broken_checkpoint_is_one_clear_line(tmp_path: Path, spoil: Callable[[Path], Any], message: str) -> None:
    """Whatever is missing, mis-shaped or unknown is told in one line that names it."""
    folder = saved(tmp_path)
    spoil(folder)

    def load() -> None:
        spec, weights = ex.open_checkpoint(folder)
        for tensor in ex.shard_weights(spec, weights, 0, spec.layers).values():
            np.asarray(tensor)

    with pytest.raises(ValueError, match=message) as told:
        load()
    assert "\n" not in str(told.value)


def test_arguments_are_checked(tmp_path: Path) -> None:
    """A context past the model's, a folder in use, impossible files and types, and too many shards are refused."""
    folder = saved(tmp_path)
    for call, message in [
        (lambda: ex.open_checkpoint(folder, context=65), "context=65 is not allowed, the model takes 1 to 64"),
        (lambda: ex.save_checkpoint(folder, SPEC, WEIGHTS), "folder: four is not empty"),
        (lambda: ex.save_checkpoint(tmp_path / "a", SPEC, WEIGHTS, files=0), "files: 0"),
        (lambda: ex.save_checkpoint(tmp_path / "a", SPEC, WEIGHTS, dtype="I8"), "dtype: 'I8'"),
        (lambda: ex.cut_evenly(SPEC, 5), "shards: 5 are not allowed, 'four' has 4 layers"),
        (lambda: tensor_file.narrow(np.float32([1e6]), "F16"), "above 65504"),
        (lambda: ex.RopeScaling(8.0, 4.0, 1.0, 32), "rope_scaling"),
    ]:
        with pytest.raises(ValueError, match=message):
            call()
    assert ex.open_checkpoint(folder, context=9)[0].context == 9
    change_config(folder, sliding_window=32, use_sliding_window="gone", architectures=["MistralForCausalLM"])
    assert ex.open_checkpoint(folder)[0].context == 32  # inside the window attention is the ordinary one
    assert ex.cut_evenly(SPEC, 3) == [(0, 1), (1, 2), (2, 4)]


HEADERS = st.one_of(
    st.binary(max_size=60),
    st.dictionaries(
        st.sampled_from(["a", "__metadata__"]),
        st.fixed_dictionaries(
            {
                "dtype": st.sampled_from(["F32", "BF16", "I64"]),
                "shape": st.lists(st.integers(-2, 4), max_size=2),
                "data_offsets": st.lists(st.integers(-4, 40), min_size=1, max_size=3),
            }
        ),
    ).map(lambda header: json.dumps(header).encode()),
)


@given(header=HEADERS, values=st.binary(max_size=40), claimed=st.integers(-3, 3))
@settings(max_examples=200, deadline=None)
def test_a_hostile_file_is_refused_with_one_kind_of_error(
    tmp_path_factory: pytest.TempPathFactory, header: bytes, values: bytes, claimed: int
) -> None:
    """Any bytes either describe themselves truly, and give finite values, or raise ValueError."""
    path = tmp_path_factory.getbasetemp() / "hostile.safetensors"
    path.write_bytes(max(0, len(header) + claimed).to_bytes(8, "little") + header + values)
    try:
        file = tensor_file.TensorFile(path)
        found = {name: file.read(name) for name in file.entries}
    except ValueError:
        return
    assert all(found[name].shape == entry.shape for name, entry in file.entries.items())


def test_the_formats_own_library_agrees(tmp_path: Path) -> None:
    """The library reads what is written here, bit for bit, and what it writes is read here."""
    library = pytest.importorskip("safetensors.numpy", reason="safetensors is not installed")
    folder = saved(tmp_path)
    theirs = library.load_file(folder / "model.safetensors")
    assert theirs.keys() == {llama_layout.stored_name(name) for name in WEIGHTS}
    assert all(np.array_equal(theirs[llama_layout.stored_name(name)], tensor) for name, tensor in WEIGHTS.items())

    library.save_file({"x": np.arange(6, dtype=np.float16).reshape(2, 3)}, tmp_path / "x.safetensors")
    assert tensor_file.TensorFile(tmp_path / "x.safetensors").read("x").tolist() == [[0, 1, 2], [3, 4, 5]]


def test_slowed_frequencies_keep_short_waves_and_slow_long_ones() -> None:
    """Llama 3's rule: the fastest pair turns as before, the slowest by 1 / factor, and those between lie between."""
    plain = replace(SPEC, head_dim=128, context=2, rope_theta=5e5)
    slowed = replace(plain, rope_scaling=ex.RopeScaling(8.0, 1.0, 4.0, 8192))
    before, after = (np.arctan2(*reversed([table[1] for table in rope_table(spec)])) for spec in (plain, slowed))

    assert after[0] == before[0]
    assert after[-1] == pytest.approx(before[-1] / 8, rel=1e-6)
    assert (np.diff(after) < 0).all()
    assert ((after <= before) & (after >= before / 8 * (1 - 1e-6))).all()
