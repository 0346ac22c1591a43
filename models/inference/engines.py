"""Engines by name, and which prices are theirs on a chip.

An engine without measured rows of its own takes those of the one whose kernels it shares or resembles (assumption).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from models.inference.assumed import FUSED_KV, assumed, kv_head_price
from models.inference.builds import of_today
from models.inference.chips import Chip
from models.inference.collectives import Link
from models.inference.names import unknown
from models.inference.prices import LINKS, REGIMES, Prices

GGML, SERVING, SPLITWISE = "llama.cpp", "vllm", "splitwise"
_CUDA = frozenset(("gddr", "gddr-server", "hbm"))


@dataclass(frozen=True)
class Engine:
    """One engine.

    Attributes:
        kernels: whose prices it takes: ``llama.cpp``, ``vllm``, ``helix`` or ``splitwise``.
        split: how it shares a model among several devices unless told: ``layers`` or ``tensor``.
        words: what its name contains; the first engine of which one is in a name is meant.
        bytes_per_activation: of a number that devices send one another.
    """

    name: str
    kernels: str
    split: str
    words: tuple[str, ...]
    bytes_per_activation: float = 2.0

    def tile_tokens(self, chip: Chip) -> int:
        """Return the columns of a tile of ggml's products: 128 on CUDA, 32 on Metal; 0 where kernels choose theirs."""
        if self.kernels != GGML:
            return 0
        return 32 if chip.kind.startswith("apple") else 128 if chip.kind in _CUDA else 0

    def chunk_tokens(self) -> int:
        """Return the tokens of a prompt that one pass takes in, 0 for all: llama.cpp's ubatch 512, MLX's step 2,048."""
        return 2048 if self.name == "mlx" else 512 if self.kernels == GGML else 0

    def chunks_in_flight(self, chip: Chip) -> int:
        """Return how many chunks of a prompt the stages work on at once: llama.cpp's keep 4 on CUDA (PR 6017)."""
        return 4 if self.name == GGML and chip.kind in ("gddr", "hbm", "gddr-server", "gddr-old") else 1


ENGINES = (
    Engine("splitwise", "splitwise", "tensor", ("splitwise",)),
    Engine("helix", "helix", "tensor", ("helix",)),
    Engine("distributed-llama", GGML, "tensor", ("distributed-llama", "distributed llama", "dllama"), 1.0625),  # Q8_0
    Engine("prima.cpp", GGML, "layers", ("prima",)),
    Engine("petals", SERVING, "layers", ("petals",)),
    Engine("exo", GGML, "layers", ("exo", )),
    Engine("parallax", SERVING, "layers", ("parallax",)),
    Engine("edgeshard", GGML, "layers", ("edgeshard",)),
    Engine("t-mac", GGML, "layers", ("t-mac", "tmac")),
    Engine("npu", GGML, "layers", ("ai hub", "genie", "qnn", "hexagon", "npu", "htp")),
    Engine("executorch", GGML, "layers",
           ("executorch", "torchchat", "mnn", "ncnn", "mllm", "onnx", "onnxruntime", "core ml", "coreml",
            "lingualinked")),
    Engine("litert", GGML, "layers", ("litert", "mediapipe", "tflite", "ai edge", "google ai")),
    Engine("mlc", GGML, "tensor", ("mlc", "tvm", "webllm")),
    Engine("mlx", GGML, "tensor", ("mlx",)),
    Engine("exllama", GGML, "layers", ("exllama", "exllamav2", "exllamav3", "exl2", "exl3", "tabbyapi")),
    Engine("llama.cpp", GGML, "layers",
           ("llama.cpp", "llama cpp", "llamacpp", "llama-bench", "llamafile", "ollama", "ggml", "gguf", "lm studio",
            "koboldcpp", "geerling", "ai-benchmarks", "jan", "gpt4all", "powerinfer", "openvino", "ktransformers",
            "candle", "mistral.rs", "vulkan", "rocm", "llama")),
    Engine("vllm", SERVING, "tensor",
           ("vllm", "sglang", "tensorrt", "trt-llm", "trtllm", "lmdeploy", "tgi", "text-generation-inference",
            "distserve", "sarathi", "vidur", "llmservingsim", "aiconfigurator", "ml.energy", "nim", "lightllm",
            "deepspeed", "fastertransformer", "mii", "nanoflow")),
    Engine("gpt-fast", SERVING, "tensor", ("gpt-fast", "gpt fast", "gptfast")),
    Engine("transformers", SERVING, "layers", ("transformers", "hugging", "pytorch", "torch", "accelerate", "h2ogpt")),
)  # fmt: skip
"""In the order in which a name is searched."""

EAGER_S_LAYER = 1.0 / 25.5 / 32
"""What Python takes to launch a layer's kernels one by one: Llama 7B at 25.5 tokens/s on an A100, bound by its host
(PyTorch, Accelerating Generative AI with PyTorch II)."""
MIXTURE_S_LAYER = 15 * 2.5e-6
"""Choosing experts takes ggml's graph about 15 small kernels more a layer (router, order, softmax, gathering, weights,
sums: 33 of gpt-oss beside 18 of Llama); each 2.5 us, what a kernel with next to no data takes (assumption)."""


def find_engine(system: str) -> Engine:
    """Return the engine that a system's name speaks of.

    Raises:
        UnknownName: none; names all.
    """
    text = " ".join(system.lower().replace("_", " ").split())
    for engine in ENGINES:
        if any(re.search(rf"(?<![a-z]){re.escape(word)}(?![a-z])", text) for word in engine.words):
            return engine
    raise unknown("system", system, [engine.name for engine in ENGINES])


def as_of_2023(engine: Engine) -> Engine:
    """Return a serving engine as it was when its host was slower than its devices: Splitwise's measured one."""
    return replace(engine, kernels=SPLITWISE) if engine.kernels == SERVING else engine


def prices(
    engine: Engine, chip: Chip, phase: str, *, fused: bool = False, old: bool = False, packed: bool = False,
    mixture: bool = False,
) -> tuple[str, Prices]:  # fmt: skip
    """Return the regime's name and its prices, as the engine's build and the chip's host have them.

    Args:
        engine: see `find_engine`.
        chip: see `models.inference.chips.find_chip`.
        phase: ``decode`` or ``prefill``.
        fused: the engine's attention never stores scores (flash attention); serving engines do so anyway.
        old: the build is of the fitted rows' time; see `models.inference.builds`.
        packed: the format's weights are integers.
        mixture: the model is a mixture of experts.
    """
    name, found = _regime(engine, chip, phase, fused)
    host = chip.host
    metal = engine.name == GGML and chip.kind.startswith("apple") and not mixture
    if not old and (metal or (engine.name in (GGML, "mlc") and chip.kind in _CUDA)):
        # Graphs spare the host; the gains were published for dense models but for CUDA's graphs.
        found, host = of_today(found, chip, phase, packed=packed and not mixture), 1.0
    chosen_s = MIXTURE_S_LAYER if mixture and engine.kernels == GGML else 0.0
    launch_s = EAGER_S_LAYER * host if engine.name == "transformers" else 0.0
    return name, replace(found, layer_s=found.layer_s * host + chosen_s, launch_s=launch_s)


def _regime(engine: Engine, chip: Chip, phase: str, fused: bool) -> tuple[str, Prices]:
    for name in (f"{engine.kernels}/{chip.name}/{phase}", f"{engine.kernels}/{chip.kind}/{phase}"):
        if name in REGIMES:
            return name, _of_attention(engine, chip, phase, REGIMES[name].prices, fused)
    nvidia = chip.kind in ("gddr", "gddr-server", "hbm", "gddr-old", "igpu-nvidia", "hbm-amd")
    if engine.kernels != GGML and nvidia:
        name = f"{SERVING if engine.kernels == SPLITWISE else engine.kernels}/any/{phase}"
        return name, REGIMES[name].prices
    of_class = {"gddr-server": "gddr", "gddr-old": "gddr"}.get(chip.kind, "")
    name = f"{GGML}/{of_class}/{phase}"
    if name in REGIMES:
        return name, _of_attention(engine, chip, phase, REGIMES[name].prices, fused)
    if chip.kind == "amd" and phase == "decode":  # ROCm's kernels are CUDA's source, translated
        found = REGIMES[f"{GGML}/gddr/{phase}"].prices
        return f"zero-shot/amd/{phase}", _of_attention(engine, chip, phase, found, fused)
    return f"zero-shot/{chip.kind}/{phase}", assumed(engine.name, chip, phase)


def _of_attention(engine: Engine, chip: Chip, phase: str, found: Prices, fused: bool) -> Prices:
    """Return the prices of llama.cpp with those of its attention, which no row of the fit constrains."""
    if engine.kernels != GGML:
        return found
    fused = fused or engine.name in ("mlx", "mlc", "exo", "exllama")
    if phase == "decode":
        return replace(found, kv=FUSED_KV, kv_head=0.0) if fused else replace(found, kv_head=kv_head_price(chip))
    attention = found.attention
    if fused:
        # vLLM's kernels, whose prices are of the peak with FP32 sums.
        attention = REGIMES[f"{SERVING}-attention/any/prefill"].prices.attention * chip.flops / chip.flops_fp32_sum
        found = replace(found, kv=FUSED_KV, score=0.0)
    return replace(found, attention=max(attention, found.linear))  # no matrix product is cheaper than one with weights


# Read off published tables, not fitted here: distributed-llama's of Raspberry Pi clusters on a 1 GbE switch give 0.4 to
# 1.3 ms a synchronisation of 2 to 4 nodes and 4.5 to 17 ms of 8, the lower for 4,096 numbers and the upper for 8,192:
# what crowds grows with the square of the size. Petals states 18 ms to pack and unpack a hop; another
# GPU in the host costs llama.cpp 0.1 to 0.5 ms a token.
_STAR_START_S, _STAR_CROWD_S = 0.4e-3, 7.0e-6
_PETALS_PACK_S, _HOST_HOP_S = 18e-3, 0.3e-3
GIGABIT_BYTES_PER_S = 117e6  # of a 1 Gbit/s link, beside the headers of Ethernet, IP and TCP
_PCIE_BYTES_PER_S, _RPC_S = 12e9, 0.5e-3
# PCIe 4 x16 through the host's memory (assumption); what L4 and T4 did in Helix's servers is fitted.
_PCIE_4 = Link(18e9, 15e-6, _HOST_HOP_S)


_NVLINK_GB_S = {"V100": 300.0, "A100": 600.0, "A800": 400.0, "H800": 400.0, "B200": 1800.0, "GB200": 1800.0}
"""By generation of boards (data sheets); 900 of any other."""


def nvlink(engine: Engine, chip: Chip) -> Link:
    """Return what joins boards of one machine: an A100's or an H100's NVLink as fitted, another's by its data sheet.

    A board older than the H100 launches as an A100 does. Splitwise's engine, whose host is slower than its devices,
    took longer with each further one: a model that its fit has not seen is met better by a ring's starts.
    """
    generation = chip.name.split()[0]
    rate = _NVLINK_GB_S.get(generation, 900.0)
    if engine.kernels == SPLITWISE:
        found = LINKS["nvlink ring"]
        return Link(found["bytes_per_s"] * rate / 900.0, found["start_s"], _HOST_HOP_S)
    of, full = ("A100", 600.0) if generation in ("V100", "A100", "A800") else ("H100", 900.0)
    found = LINKS[f"nvlink {of}"]
    return Link(found["bytes_per_s"] * rate / full, 0.0, _HOST_HOP_S, launch_s=found["launch_s"])


def default_link(engine: Engine, chip: Chip) -> Link:
    """Return what joins the devices where nobody says: NVLink, PCIe, or gigabit Ethernet between single boards."""
    small = chip.kind in ("board", "jetson", "phone", "apple-phone", "cpu")
    if engine.name == "distributed-llama" or (small and engine.split == "tensor"):
        return Link(GIGABIT_BYTES_PER_S, _STAR_START_S, _RPC_S, star=True, crowd_s=_STAR_CROWD_S)
    if engine.name == "petals":
        return Link(GIGABIT_BYTES_PER_S, 0.0, _PETALS_PACK_S)
    if small or chip.kind.startswith("apple"):
        return Link(GIGABIT_BYTES_PER_S, 0.2e-3, _RPC_S)
    if engine.split == "tensor" and chip.kind == "hbm":
        return nvlink(engine, chip)
    if engine.split == "tensor" and chip.kind != "gddr-server":
        return _PCIE_4
    if engine.split == "tensor":
        found = LINKS["pcie"]
        return Link(found["bytes_per_s"], found["start_s"], _HOST_HOP_S)
    return Link(_PCIE_BYTES_PER_S, 0.0, _HOST_HOP_S)
