"""Loading a shard: its layers are read from flash, and fetched before that where they are not on it.

Devices may begin with the model on flash (``on_flash``) or with nothing (``fetched``). Then what a shard lacks is
fetched layer by layer over the links of the world (`sim.bulk`), from whoever has the layer and gives it soonest, as
`policies.sharding.replan` counts it, and from the model's home if nobody has it. A layer that has come stays on flash,
over crashes too, and beside those of other models. One that was broken off resumes: tensors that are whole have their
digests verified and are kept, the rest of the layer is fetched again, from elsewhere if its source is gone.

ASSUMPTIONS: the home is beyond the backbone and never the bottleneck; flash has room for all models; tensors come
one after another in the order of a checkpoint; hashing keeps up with the link.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from models.inference import Shape
from policies.jobs import Done, LoadJob, Outcome
from policies.port import NS_PER_S
from sim.bulk import Bulk
from sim.sharing import Flow
from sim.world import Node, World

LOAD_BYTES_PER_S = 1.0e9
"""Reading a shard that is already on flash: UFS 3.1 and consumer NVMe read 1-2 GB/s sequentially (JESD220E)."""
SILENT_S = 5.0
"""A transfer whose source has gone is noticed after this; a head notices a dead stage as late (`sim.compute`)."""
HEAD = -1
"""The embedding and the head, which every shard reads, stand beside the layers under this number."""

Layer = tuple[str, int]
"""A model's name and the number of one of its layers."""
Tell = Callable[[Node, str, int, Outcome, int], None]


@dataclass
class _Fetch:
    """A load under way: what is still missing, and the transfer of the first of it."""

    node: Node
    path: str
    job_id: int
    job: LoadJob
    missing: list[Layer]
    source: Node | None = None
    flow: Flow | None = None


class Loads:
    """Brings shards into the memory of the world's nodes.

    Args:
        world: whose nodes load.
        shape: a model's name to its shape.
        bulk: carries what is fetched.
        tell: reports an outcome at a time (ns).
        fetched: devices begin without the model.
        bytes_per_s: at which a shard is read.

    Attributes:
        on_flash: a model's layer (or `HEAD`) to the nodes that have it, by number; not kept where all have everything.
        fetched_bytes: what has crossed the links, broken transfers included.
    """

    def __init__(
        self, world: World, shape: Callable[[str], Shape], bulk: Bulk, tell: Tell, *, fetched: bool,
        bytes_per_s: float = LOAD_BYTES_PER_S,
    ) -> None:  # fmt: skip
        self.world, self.shape_of, self.bulk, self.fetched = world, shape, bulk, fetched
        self._tell, self._bytes_per_s = tell, bytes_per_s
        self.on_flash: dict[Layer, dict[int, Node]] = {}
        self.fetched_bytes = 0.0
        self._begun: dict[tuple[int, Layer], float] = {}  # (node, layer) to bytes of whole tensors
        self._under_way: dict[tuple[str, int], _Fetch] = {}
        self._offline: set[int] = set()  # nodes on no network, by number: not even the home is within reach

    def start(self, node: Node, path: str, job_id: int, job: LoadJob) -> None:
        """Begin a load."""
        if not self.fetched:
            self._read(node, path, job_id, job)
            return
        wanted = [(job.model, number) for number in (HEAD, *range(job.first, job.last))]
        missing = [layer for layer in wanted if node.number not in self.on_flash.get(layer, {})]
        fetch = self._under_way[node.name, job_id] = _Fetch(node, path, job_id, job, missing)
        self._next(fetch)

    def cancel(self, node: Node, job_id: int) -> None:
        """Give a load up; what has come is kept."""
        fetch = self._under_way.pop((node.name, job_id), None)
        if fetch is not None:
            self._break_off(fetch)

    def node_down(self, node: Node) -> None:
        """A node crashed: its own loads vanish, those that fetch from it go on elsewhere when they notice."""
        for (name, job_id), fetch in list(self._under_way.items()):
            if name == node.name:
                self.cancel(node, job_id)
            elif fetch.source is node:
                self._retry(fetch)

    def cut(self) -> None:
        """A partition began: transfers across it go on elsewhere."""
        for fetch in list(self._under_way.values()):
            if fetch.source is not None and self.world.network.parted([fetch.source.number, fetch.node.number]):
                self._retry(fetch)

    def leave(self, node: Node, offline: bool) -> None:
        """A node is on another network, or on none: its transfers go on over that, from where they were broken off."""
        (self._offline.add if offline else self._offline.discard)(node.number)
        for fetch in list(self._under_way.values()):
            if node in (fetch.node, fetch.source):
                self._retry(fetch)

    def _next(self, fetch: _Fetch) -> None:
        """Fetch the next missing layer, or read the shard if none is."""
        if not fetch.missing:
            del self._under_way[fetch.node.name, fetch.job_id]
            self._read(fetch.node, fetch.path, fetch.job_id, fetch.job)
            return
        layer = fetch.missing[0]
        left_bytes = self._size_bytes(layer) - self._begun.get((fetch.node.number, layer), 0.0)
        fetch.source = self._source(fetch.node, layer, left_bytes)
        if fetch.source is None and fetch.node.number in self._offline:
            self._later(fetch)
        elif fetch.source is None:
            fetch.flow = self.bulk.bring(fetch.node.number, left_bytes, lambda flow: self._came(fetch, flow))
        else:
            ends = fetch.source.number, fetch.node.number
            fetch.flow = self.bulk.send(*ends, left_bytes, lambda flow: self._came(fetch, flow))

    def _came(self, fetch: _Fetch, flow: Flow) -> None:
        if fetch.flow is not flow:
            return  # it ended at the very moment at which it was broken off
        layer = fetch.missing.pop(0)
        self.fetched_bytes += self._size_bytes(layer) - self._begun.pop((fetch.node.number, layer), 0.0)
        self.on_flash.setdefault(layer, {})[fetch.node.number] = fetch.node
        self._next(fetch)

    def _source(self, node: Node, layer: Layer, size_bytes: float) -> Node | None:
        """Return who gives the layer soonest of those that have it, up and within reach; None is the home."""
        network = self.world.network
        best: tuple[float, int, Node] | None = None
        for number, other in self.on_flash.get(layer, {}).items():
            if number != node.number and other.up and not network.parted([number, node.number]):
                latency_s, bytes_per_s, _ = network.path(number, node.number)
                way = (latency_s + size_bytes / bytes_per_s, number, other)
                best = way if best is None or way[:2] < best[:2] else best
        return best[2] if best is not None else None

    def _retry(self, fetch: _Fetch) -> None:
        """Break a transfer off, and go on with it later, from whoever is there then."""
        self._break_off(fetch)
        self._later(fetch)

    def _later(self, fetch: _Fetch) -> None:
        at = self.world.engine.now + int(SILENT_S * NS_PER_S)
        self.world.engine.call_at(at, self._resume, fetch)

    def _resume(self, fetch: _Fetch) -> None:
        if self._under_way.get((fetch.node.name, fetch.job_id)) is fetch and fetch.flow is None:
            self._next(fetch)

    def _break_off(self, fetch: _Fetch) -> None:
        """Stop a transfer; the tensors that are whole stay."""
        flow, fetch.flow = fetch.flow, None
        if flow is None or flow.finished_s is not None:
            return
        layer, key = fetch.missing[0], (fetch.node.number, fetch.missing[0])
        before = self._begun.get(key, 0.0)
        came = self._size_bytes(layer) - before - self.bulk.sharing.left(flow)
        self.bulk.sharing.cancel(flow)
        fetch.source = None
        self.fetched_bytes += came
        self._begun[key] = max(before, self._whole_bytes(layer, before + came))

    def _read(self, node: Node, path: str, job_id: int, job: LoadJob) -> None:
        """Read a shard from flash."""
        shape = self.shape_of(job.model)
        size = (job.last - job.first) * shape.layer_bytes() + shape.head_bytes()
        self._tell(node, path, job_id, Done("", 0, 0), self.world.engine.now + int(size / self._bytes_per_s * NS_PER_S))

    def _size_bytes(self, layer: Layer) -> float:
        shape = self.shape_of(layer[0])
        return shape.head_bytes() if layer[1] == HEAD else shape.layer_bytes()

    def _whole_bytes(self, layer: Layer, came_bytes: float) -> float:
        """Return the bytes of the tensors that are whole when so many of a layer's have come."""
        whole = 0.0
        # The head is one tensor.
        for tensor_bytes in tensors_bytes(self.shape_of(layer[0])) if layer[1] != HEAD else ():
            if whole + tensor_bytes > came_bytes * (1 + 1e-12):
                break
            whole += tensor_bytes
        return whole


def tensors_bytes(shape: Shape) -> list[float]:
    """Return the bytes of a layer's tensors in a checkpoint's order, scaled to `Shape.layer_bytes`.

    Queries, keys, values, output; the router and what all tokens share, where there are experts; then each feed-forward
    block's matrices.
    """
    queries, keys = shape.hidden * shape.heads * shape.head_dim, shape.hidden * shape.kv_heads * shape.head_dim
    matrices = 3 if shape.gated else 2
    shared = [shape.experts * shape.hidden, *[shape.hidden * shape.shared_ffn] * matrices]
    blocks = [shape.hidden * shape.ffn] * (matrices * max(shape.experts, 1))
    params = [float(n) for n in (queries, keys, keys, queries, *shared, *blocks) if n]
    each = shape.layer_bytes() / sum(params)
    return [n * each for n in params]
