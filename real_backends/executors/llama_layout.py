"""Checkpoints in the layout of the Llama family: a folder with config.json and safetensors, opened by layer range.

Tensor names and the fields of config.json are those that Transformers writes for LlamaForCausalLM, MistralForCausalLM
and Qwen2ForCausalLM. Opening a folder reads config.json and the index; a shard's construction reads the headers of the
files that hold its layers, and of the values only its own.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from real_backends.executors.checkpoint import Weights
from real_backends.executors.spec import ModelSpec, RopeScaling, tensor_shapes
from real_backends.executors.tensor_file import WIDTHS, TensorFile, write_tensor_file

ARCHITECTURES = {"LlamaForCausalLM": False, "MistralForCausalLM": False, "Qwen2ForCausalLM": True}
"""Architectures that can be run, and whether q, k and v add biases."""
CONTEXT_DEFAULT = (
    2048  # assumption: KV caches are allocated whole, and 128 Ki tokens a session would fill a desk machine
)
LAYERS_MAX = 1024  # assumption: eight times the deepest published dense model (Llama 3.1 405B's config.json has 126)
SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"

_WHOLE = {"embed": "model.embed_tokens.weight", "norm": "model.norm.weight", "head": "lm_head.weight"}
_PARTS = {
    "attn_norm": "input_layernorm.weight",
    "q": "self_attn.q_proj.weight",
    "k": "self_attn.k_proj.weight",
    "v": "self_attn.v_proj.weight",
    "q_bias": "self_attn.q_proj.bias",
    "k_bias": "self_attn.k_proj.bias",
    "v_bias": "self_attn.v_proj.bias",
    "o": "self_attn.o_proj.weight",
    "ffn_norm": "post_attention_layernorm.weight",
    "gate": "mlp.gate_proj.weight",
    "up": "mlp.up_proj.weight",
    "down": "mlp.down_proj.weight",
}


def stored_name(name: str) -> str:
    """The name in the files of one of our tensors: `layers.3.q` is `model.layers.3.self_attn.q_proj.weight`."""
    if name in _WHOLE:
        return _WHOLE[name]
    _, layer, part = name.split(".")
    return f"model.layers.{layer}.{_PARTS[part]}"


class StoredTensor:
    """One tensor that is read when numpy asks for its values; it stands where an array may stand."""

    dtype = np.dtype(np.float32)

    def __init__(self, file: TensorFile, name: str) -> None:
        self._file, self._name = file, name
        self.shape = file.entries[name].shape

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> npt.NDArray[Any]:
        values = self._file.read(self._name)
        return values if dtype is None else values.astype(dtype, copy=False)


class StoredWeights(Mapping[str, StoredTensor]):
    """The tensors of a checkpoint's files, by our names.

    Args:
        folder: the checkpoint.
        spec: its shape.
        files: stored name to the file that holds it; None for one file that holds all.
    """

    def __init__(self, folder: Path, spec: ModelSpec, files: Mapping[str, str] | None) -> None:
        self._folder, self._files = folder, files
        self._names = {name: stored_name(name) for name in tensor_shapes(spec, 0, spec.layers)}
        self._opened: dict[str, TensorFile] = {}

    def __getitem__(self, name: str) -> StoredTensor:
        """One tensor, without its values.

        Raises:
            KeyError: not a tensor of this model, or not in the files.
            ValueError: a file of the index is missing or malformed, or the tensor is of a type that cannot be read.
        """
        stored = self._names[name]
        file = self._open(SINGLE if self._files is None else self._files[stored])
        if stored not in file.entries:
            raise KeyError(name)
        if (dtype := file.entries[stored].dtype) not in WIDTHS:
            raise ValueError(
                f"checkpoint {self._folder.name}: tensor {stored!r} is {dtype}, allowed: {', '.join(WIDTHS)}"
            )
        return StoredTensor(file, stored)

    def _open(self, name: str) -> TensorFile:
        if name not in self._opened:
            try:
                self._opened[name] = TensorFile(self._folder / name)
            except FileNotFoundError:
                raise ValueError(f"checkpoint {self._folder.name}: file {name!r} is missing") from None
            except ValueError as error:
                raise ValueError(f"checkpoint {self._folder.name}: {error}") from None
        return self._opened[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


def open_checkpoint(folder: Path, context: int | None = None) -> tuple[ModelSpec, StoredWeights]:
    """Open a checkpoint; no tensor is read yet.

    Args:
        folder: holds config.json and model.safetensors, or model.safetensors.index.json and the files it names.
        context: longest session in tokens; None is the model's own, but `CONTEXT_DEFAULT` at most.

    Raises:
        ValueError: one line that names the checkpoint and what is wrong with it.
    """
    spec = _spec(folder.name, _json(folder, "config.json"), context)
    if (folder / INDEX).exists():
        files = _json(folder, INDEX).get("weight_map")
        if not isinstance(files, dict) or not all(isinstance(f, str) and f == Path(f).name for f in files.values()):
            raise ValueError(f"checkpoint {folder.name}: {INDEX} has no weight_map of tensor names to files beside it")
        return spec, StoredWeights(folder, spec, files)
    if not (folder / SINGLE).exists():
        raise ValueError(f"checkpoint {folder.name}: holds neither {SINGLE} nor {INDEX}")
    return spec, StoredWeights(folder, spec, None)


def _json(folder: Path, name: str) -> dict[str, Any]:
    try:
        found = json.loads((folder / name).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ValueError(f"checkpoint {folder.name}: {name} is missing") from None
    except (ValueError, RecursionError) as error:
        raise ValueError(f"checkpoint {folder.name}: {name} is not JSON ({error})") from None
    if not isinstance(found, dict):
        raise ValueError(f"checkpoint {folder.name}: {name} is not a JSON object")
    return found


def _spec(name: str, config: Mapping[str, Any], context: int | None) -> ModelSpec:
    named = config.get("architectures") or ["none"]
    architecture = named[0] if isinstance(named, list) else named
    if not isinstance(architecture, str) or architecture not in ARCHITECTURES:
        raise ValueError(
            f"checkpoint {name}: architecture {architecture!r} is unknown, allowed: {', '.join(ARCHITECTURES)}"
        )
    if config.get("hidden_act", "silu") != "silu" or config.get("mlp_bias") or config.get("quantization_config"):
        raise ValueError(f"checkpoint {name}: only hidden_act=silu without mlp_bias and quantization_config can be run")
    if config.get("attention_bias") and not ARCHITECTURES[architecture]:
        raise ValueError(f"checkpoint {name}: attention_bias=true of {architecture} cannot be run")
    try:
        longest = int(config["max_position_embeddings"])
        window = config.get("sliding_window")
        if window is not None and config.get("use_sliding_window", True):
            longest = min(longest, int(window))  # inside the window attention is the ordinary one
        if context is not None and not 1 <= context <= longest:
            raise ValueError(f"context={context} is not allowed, the model takes 1 to {longest}")
        layers = config["num_hidden_layers"]
        if isinstance(layers, int) and layers > LAYERS_MAX:  # each is looked for by name
            raise ValueError(f"layers: {layers} is not allowed, at most {LAYERS_MAX}")
        hidden, heads = config["hidden_size"], config["num_attention_heads"]
        # Transformers 5 keeps the rotary settings in one object, earlier ones in two fields.
        rope = config.get("rope_parameters") or {"rope_theta": 10000.0, **config}
        return ModelSpec(
            name=name,
            layers=layers,
            hidden=hidden,
            heads=heads,
            kv_heads=config.get("num_key_value_heads") or heads,
            head_dim=config.get("head_dim") or hidden // heads,
            ffn=config["intermediate_size"],
            vocab=config["vocab_size"],
            context=min(longest, CONTEXT_DEFAULT) if context is None else context,
            rope_theta=float(rope["rope_theta"]),
            norm_eps=float(config["rms_norm_eps"]),
            tied_head=bool(config.get("tie_word_embeddings", False)),
            qkv_bias=ARCHITECTURES[architecture],
            rope_scaling=_scaling(config.get("rope_parameters") or config.get("rope_scaling") or {}),
        )
    except KeyError as error:
        raise ValueError(f"checkpoint {name}: config.json has no field {error.args[0]!r}") from None
    except (TypeError, ValueError, ArithmeticError) as error:
        raise ValueError(f"checkpoint {name}: config.json: {error}") from None


def _scaling(rope: Any) -> RopeScaling | None:
    if not isinstance(rope, dict):
        raise TypeError(f"rope_scaling: {rope!r} is not allowed, expected an object or null")
    kind = rope.get("rope_type") or rope.get("type") or "default"
    if kind == "default":
        return None
    if kind != "llama3":
        raise ValueError(f"rope_type {kind!r} is unknown, allowed: default, llama3")
    return RopeScaling(
        factor=float(rope["factor"]),
        low=float(rope["low_freq_factor"]),
        high=float(rope["high_freq_factor"]),
        original_context=int(rope["original_max_position_embeddings"]),
    )


def save_checkpoint(folder: Path, spec: ModelSpec, weights: Weights, *, files: int = 1, dtype: str = "F32") -> None:
    """Write a checkpoint that Transformers and `open_checkpoint` read; config.json is written last.

    Args:
        folder: made where it does not exist.
        spec: the model's shape.
        weights: all its tensors.
        files: how many safetensors files, of about equal sizes; with more than one an index is written.
        dtype: "F32", "F16" or "BF16".

    Raises:
        ValueError: the folder holds something, or an argument is not allowed.
        OSError: it cannot be written.
    """
    names = list(tensor_shapes(spec, 0, spec.layers))
    if not 1 <= files <= len(names):
        raise ValueError(f"files: {files} is not allowed, expected 1 to {len(names)}, the number of tensors")
    if dtype not in WIDTHS:
        raise ValueError(f"dtype: {dtype!r} is not allowed, expected one of {', '.join(WIDTHS)}")
    if folder.exists() and any(folder.iterdir()):
        raise ValueError(f"folder: {folder.name} is not empty")
    folder.mkdir(parents=True, exist_ok=True)
    sizes = np.cumsum([weights[name].shape and np.prod(weights[name].shape) for name in names])
    place = np.minimum((sizes - 1) * files // sizes[-1], files - 1)
    weight_map: dict[str, str] = {}
    for number in range(files):
        file = SINGLE if files == 1 else f"model-{number + 1:05}-of-{files:05}.safetensors"
        held = {stored_name(n): np.asarray(weights[n]) for n, at in zip(names, place, strict=True) if at == number}
        write_tensor_file(folder / file, held, dtype)
        weight_map |= dict.fromkeys(held, file)
    if files > 1:
        index = {"metadata": {"total_size": int(sizes[-1]) * WIDTHS[dtype]}, "weight_map": weight_map}
        (folder / INDEX).write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")
    (folder / "config.json").write_text(json.dumps(_config(spec, dtype), indent=2) + "\n", encoding="utf-8")


def _config(spec: ModelSpec, dtype: str) -> dict[str, Any]:
    scaling = spec.rope_scaling and {
        "rope_type": "llama3",
        "factor": spec.rope_scaling.factor,
        "low_freq_factor": spec.rope_scaling.low,
        "high_freq_factor": spec.rope_scaling.high,
        "original_max_position_embeddings": spec.rope_scaling.original_context,
    }
    return {
        "architectures": ["Qwen2ForCausalLM" if spec.qkv_bias else "LlamaForCausalLM"],
        "model_type": "qwen2" if spec.qkv_bias else "llama",
        "hidden_act": "silu",
        "hidden_size": spec.hidden,
        "num_hidden_layers": spec.layers,
        "num_attention_heads": spec.heads,
        "num_key_value_heads": spec.kv_heads,
        "head_dim": spec.head_dim,
        "intermediate_size": spec.ffn,
        "vocab_size": spec.vocab,
        "max_position_embeddings": spec.context,
        "rope_theta": spec.rope_theta,
        "rope_scaling": scaling,
        "rms_norm_eps": spec.norm_eps,
        "tie_word_embeddings": spec.tied_head,
        "use_sliding_window": False,
        "torch_dtype": {"F32": "float32", "F16": "float16", "BF16": "bfloat16"}[dtype],
    }
