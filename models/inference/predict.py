"""The one prediction: what a system does with a model on some devices.

Names, tables, work and prices are put together here and nowhere else; `twin predict` is this function on a table.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from models.inference.catalogue import find_model
from models.inference.chips import Chip, find_devices
from models.inference.collectives import Link, layer_all_reduce_s, pipeline_rate
from models.inference.conditions import Conditions
from models.inference.engines import Engine, as_of_2023, default_link, find_engine, prices
from models.inference.prices import Prices, terms_s
from models.inference.quantisation import Format, find_format
from models.inference.shapes import Shape
from models.inference.work import Work, decode_work, prefill_work

RUNTIME_BYTES = 0.5e9
"""What an engine holds besides weights and cache: context, graphs, buffers (assumption; 0.3 to 1 GB in CUDA)."""

WAITING_SHARE = 0.34
"""Of what a device draws beyond idle, the part that it also draws while a pass waits for host or links: the median over
the mean powers that Splitwise measured on A100 boards (others: assumption)."""

KERNELS = (
    "weight", "linear", "linear_packed", "linear_k", "kv", "kv_head", "attention", "whole_attention", "unpacked",
    "activation", "score", "linear_j",
)  # fmt: skip
"""Terms in which the devices work; in the others they wait."""


@dataclass(frozen=True)
class Metrics:
    """A prediction. Seconds, bytes, joules; lists have one element a device.

    Attributes:
        regime_decode, regime_prefill: whose prices: ``engine/class/phase``, ``zero-shot/...`` where none is measured.
        zero_shot: at least one of them is assumed rather than fitted, or a chip was known by its bandwidth only.
        decode_step_s: one new token for every stream, through all stages.
        decode_tokens_per_s: of all streams together, one batch in flight.
        pipeline_tokens_per_s: the same with as many batches in flight as there are stages.
        prefill_s: until the prompts of the batch are taken in.
        prefill_tokens_per_s: of all streams together.
        time_to_first_token_s: the prompt, out of which the first token of each answer comes.
        end_to_end_s: prompt and answer: the time to the first token, and a step for each further one.
        decode_layer_s, prefill_layer_s: of one layer, all-reduces included, head and hops not.
        decode_terms_s, prefill_terms_s: by kind of work; ``all_reduce`` and ``hops`` beside those of `Prices`.
        weight_bytes, kv_bytes: of the model; of all streams at the end of the answer.
        device_bytes: weights, cache and runtime on each device.
        fits: every device holds its part (devices of unknown memory do).
        busy: share of the time that devices compute rather than wait for host or links.
        mean_power_w, peak_power_w: of all devices.
        joules_per_token, heat_j_per_token: a token of the answer; what is drawn becomes heat.
    """

    regime_decode: str
    regime_prefill: str
    zero_shot: bool
    decode_step_s: float
    decode_tokens_per_s: float
    pipeline_tokens_per_s: float
    prefill_s: float
    prefill_tokens_per_s: float
    time_to_first_token_s: float
    end_to_end_s: float
    decode_layer_s: float
    prefill_layer_s: float
    decode_terms_s: dict[str, float]
    prefill_terms_s: dict[str, float]
    weight_bytes: float
    kv_bytes: float
    device_bytes: tuple[float, ...]
    fits: bool
    busy: float
    mean_power_w: float
    peak_power_w: float
    joules_per_token: float
    heat_j_per_token: float


@dataclass(frozen=True)
class _Cut:
    """Where the model lies: stages of consecutive layers, each on one chip or on several that cut every matrix."""

    chips: tuple[Chip, ...]
    layers: tuple[int, ...]
    tensor: int


@dataclass(frozen=True)
class _Pass:
    terms_s: dict[str, float]
    stages_s: list[float]
    hops_s: list[float]
    layer_s: float
    regime: str
    turns: int = 1
    in_flight: int = 1

    def total_s(self) -> float:
        """Return the time of all stages, one after another; with several turns a stage begins while the next works.

        After the first turn another one ends whenever the slowest stage is done, but no faster than the turns that are
        in flight come round.
        """
        around_s = sum(self.stages_s) + sum(self.hops_s)
        each_s = max(*self.stages_s, around_s / self.in_flight)
        return around_s / self.turns + (1.0 - 1.0 / self.turns) * each_s


def predict(
    system: str,
    model: str | Shape,
    quantisation: str,
    devices: str | Sequence[Chip],
    links: Link | None = None,
    conditions: Conditions | None = None,
) -> Metrics:
    """Predict decode, prefill, memory and energy of a system.

    Args:
        system: the engine's name, as in ``llama.cpp Metal`` or ``vLLM``.
        model: its name, or a shape.
        quantisation: format of the weights, as in ``Q4_K_M``.
        devices: a name with its count, as in ``RTX 4090 * 2``; or chips.
        links: what joins the devices; None: what is usual for such devices.
        conditions: prompt, answer, batch, context and split; None: 512 tokens and 128 for one stream.

    Raises:
        ValueError: a name is not known (with the nearest), or there are more stages than layers.
    """
    asked = conditions or Conditions()
    engine = as_of_2023(find_engine(system)) if asked.old_serving else find_engine(system)
    form = find_format(quantisation)
    shape = model if isinstance(model, Shape) else find_model(model).shape
    cache = asked.bytes_per_kv or shape.bytes_per_kv
    shape = replace(form.of(shape), bytes_per_activation=engine.bytes_per_activation, bytes_per_kv=cache)
    chips = find_devices(devices) if isinstance(devices, str) else tuple(devices)
    cut = _cut(shape, chips, asked.split or engine.split)
    link = links or default_link(engine, chips[0])
    decode = _decode(engine, shape, cut, link, asked, form=form)
    prefill = _prefill(engine, shape, cut, link, asked, form=form)
    return _metrics(shape, cut, asked, decode, prefill)


def _cut(shape: Shape, chips: tuple[Chip, ...], split: str) -> _Cut:
    if split not in ("layers", "tensor"):
        raise ValueError(f"split is {split!r}; allowed: layers, tensor")
    if split == "tensor" or len(chips) == 1:
        return _Cut(chips, (shape.layers,), len(chips))
    if len(chips) > shape.layers:
        raise ValueError(f"devices are {len(chips)}; allowed: at most one for each of the {shape.layers} layers")
    known = all(chip.memory_bytes > 0.0 for chip in chips)
    shares = [chip.memory_bytes if known else 1.0 for chip in chips]
    bounds = [round(shape.layers * sum(shares[:place]) / sum(shares)) for place in range(len(chips) + 1)]
    layers = [max(1, after - before) for before, after in pairwise(bounds)]
    while sum(layers) > shape.layers:  # a small device's one layer is one less of whoever has most
        layers[layers.index(max(layers))] -= 1
    return _Cut(chips, tuple(layers), 1)


def _decode(engine: Engine, shape: Shape, cut: _Cut, link: Link, asked: Conditions, *, form: Format) -> _Pass:
    works = [
        decode_work(shape, layers, asked.batch, asked.context(), head=place == len(cut.layers) - 1, packed=form.packed)
        for place, layers in enumerate(cut.layers)
    ]
    one = decode_work(shape, 1, asked.batch, asked.context(), packed=form.packed)
    return _pass(engine, "decode", shape, cut, link, works, one, asked, asked.batch, form=form)


def _prefill(engine: Engine, shape: Shape, cut: _Cut, link: Link, asked: Conditions, *, form: Format) -> _Pass:
    chunks = _chunks(asked.chunk_tokens or engine.chunk_tokens(), asked)

    def work(layers: int, *, head: bool = False) -> Work:
        made = Work()
        for place, (tokens, before) in enumerate(chunks):
            speaks = head and place == len(chunks) - 1
            made += prefill_work(
                shape, layers, tokens, before=before, streams=asked.batch, head=speaks, packed=form.packed,
                tile_tokens=engine.tile_tokens(cut.chips[0]),
            )  # fmt: skip
        return made

    works = [work(layers, head=place == len(cut.layers) - 1) for place, layers in enumerate(cut.layers)]
    tokens = asked.batch * asked.prompt_tokens
    found = _pass(engine, "prefill", shape, cut, link, works, work(1), asked, tokens, form=form)
    return replace(found, turns=len(chunks), in_flight=engine.chunks_in_flight(cut.chips[0]))


def _chunks(size: int, asked: Conditions) -> list[tuple[int, int]]:
    """Return tokens of a stream and those cached before them, for each pass of a prompt."""
    whole = asked.prompt_tokens
    step = max(1, int(size / asked.batch)) if size else max(whole, 1)
    return [(min(step, whole - start), asked.depth_tokens + start) for start in range(0, max(whole, 1), step)]


def _pass(
    engine: Engine, phase: str, shape: Shape, cut: _Cut, link: Link, works: list[Work], one: Work, asked: Conditions,
    tokens: float, *, form: Format,
) -> _Pass:  # fmt: skip
    """Price the stages of one pass, the all-reduces inside them and the hops between them."""
    sent_bytes = tokens * shape.activation_bytes()
    terms: dict[str, float] = {}
    stages_s, regime, layer_s = [], "", 0.0
    for place, (work, layers) in enumerate(zip(works, cut.layers, strict=True)):
        members = cut.chips if cut.tensor > 1 else (cut.chips[place],)
        found: list[tuple[str, Prices, Chip]] = [
            (
                *prices(
                    engine, chip, phase, fused=asked.fused_attention,
                    old=asked.old_metal if chip.kind.startswith("apple") else asked.old_build,
                    packed=form.packed, mixture=shape.experts > 0,
                ),
                chip,
            )
            for chip in members
        ]  # fmt: skip
        # All members of a tensor-parallel group wait for the slowest.
        parts = [
            (terms_s(work.split(len(members)), chip, price, packing=form.packing), name, price, chip)
            for name, price, chip in found
        ]
        slowest, regime, price, chip = max(parts, key=lambda part: sum(part[0].values()))
        said_s = layer_all_reduce_s(link, len(members), layers, sent_bytes)
        for name, seconds in {**slowest, "all_reduce": said_s}.items():
            terms[name] = terms.get(name, 0.0) + seconds
        stages_s.append(sum(slowest.values()) + said_s)
        alone = terms_s(one.split(len(members)), chip, price, packing=form.packing)
        layer_s = sum(alone.values()) - alone["pass_s"] + said_s / layers
    hop_s = link.start_s + link.serialise_s + sent_bytes / link.bytes_per_s
    hops_s = [hop_s] * (len(cut.layers) - 1)
    terms["hops"] = sum(hops_s)
    return _Pass(terms, stages_s, hops_s, layer_s, regime)


def _metrics(shape: Shape, cut: _Cut, asked: Conditions, decode: _Pass, prefill: _Pass) -> Metrics:
    step_s, prefill_s = decode.total_s(), prefill.total_s()
    steps = max(asked.output_tokens - 1, 0)  # the first token comes out of the prompt
    whole_s = prefill_s + steps * step_s
    kv_bytes = asked.batch * shape.layers * shape.kv_bytes_per_token_layer()
    kv_bytes *= float(shape.kept_tokens(max(asked.context(), asked.prompt_tokens + asked.output_tokens)))
    held = _device_bytes(shape, cut, kv_bytes)
    worked_s = sum(prefill.terms_s[name] for name in KERNELS)
    worked_s += steps * sum(decode.terms_s[name] for name in KERNELS)
    busy = min(1.0, worked_s / whole_s)
    # Stages take turns: while one computes the others idle.
    active = (WAITING_SHARE + (1.0 - WAITING_SHARE) * busy) * (1.0 if cut.tensor > 1 else 1.0 / len(cut.layers))
    power_w = sum(chip.idle_w + (chip.peak_w - chip.idle_w) * active for chip in cut.chips)
    joules = power_w * whole_s / max(asked.output_tokens * asked.batch, 1)
    return Metrics(
        regime_decode=decode.regime,
        regime_prefill=prefill.regime,
        zero_shot=any("zero-shot" in one.regime for one in (decode, prefill)) or not all(c.known for c in cut.chips),
        decode_step_s=step_s,
        decode_tokens_per_s=asked.batch / step_s,
        pipeline_tokens_per_s=asked.batch * pipeline_rate(decode.stages_s, decode.hops_s, len(cut.layers)),
        prefill_s=prefill_s,
        prefill_tokens_per_s=asked.batch * asked.prompt_tokens / prefill_s,
        time_to_first_token_s=prefill_s,
        end_to_end_s=whole_s,
        decode_layer_s=decode.layer_s,
        prefill_layer_s=prefill.layer_s,
        decode_terms_s=decode.terms_s,
        prefill_terms_s=prefill.terms_s,
        weight_bytes=shape.total_bytes(),
        kv_bytes=kv_bytes,
        device_bytes=held,
        fits=all(
            need <= chip.memory_bytes or not chip.memory_bytes for need, chip in zip(held, cut.chips, strict=True)
        ),
        busy=busy,
        mean_power_w=power_w,
        peak_power_w=sum(chip.peak_w for chip in cut.chips),
        joules_per_token=joules,
        heat_j_per_token=joules,
    )


def _device_bytes(shape: Shape, cut: _Cut, kv_bytes: float) -> tuple[float, ...]:
    """Return weights, cache and runtime by device: embedding with the first stage, head with the last."""
    if len(cut.layers) == 1:
        each = (shape.total_bytes() + kv_bytes) / cut.tensor + RUNTIME_BYTES
        return (each,) * cut.tensor
    held = [n * (shape.layer_bytes() + kv_bytes / shape.layers) + RUNTIME_BYTES for n in cut.layers]
    held[0] += shape.head_bytes()
    held[-1] += shape.head_bytes()
    return tuple(held)
