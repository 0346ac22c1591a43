"""What a policy may not use, and what it uses in its place: the one list that every purity net reads.

The text of a policy is held against all of it (`experiments.policy_source`); what can be called is poisoned while a
guarded step runs (`sim.poison`). The import contracts in ``pyproject.toml`` say the same of whole modules.
"""

from __future__ import annotations

CLOCK = "use self.port.now (monotonic) or self.port.wall"
CHANCE = "use self.port.rng"
NOTHING = "a policy does no I/O and starts nothing; ask the port"
COMPUTE = "use self.port.submit(job)"
WORLD = "a policy does not know its world"
ADDRESS = "differs between processes; use policies.wire.digest"
PLAIN = "write it out"

MODULES: dict[str, str] = {
    **dict.fromkeys(("time", "datetime", "sched", "zoneinfo"), CLOCK),
    **dict.fromkeys(("random", "_random", "secrets", "uuid", "numpy.random"), CHANCE),
    **dict.fromkeys(
        (
            "os", "posix", "nt", "sys", "io", "_io", "socket", "_socket", "socketserver", "ssl", "select", "selectors",
            "asyncio", "threading", "_thread", "queue", "multiprocessing", "concurrent", "subprocess", "pathlib",
            "glob", "shutil", "tempfile", "urllib", "http", "requests", "sqlite3", "logging", "signal",
            "platform", "atexit",
        ),
        NOTHING,
    ),
    **dict.fromkeys(("torch", "jax"), COMPUTE),
    **dict.fromkeys(("ctypes", "importlib", "inspect", "gc", "builtins"), PLAIN),
    **dict.fromkeys(("sim", "real_backends", "scenarios", "experiments"), WORLD),
}  # fmt: skip
"""Module to what a policy uses in its place. The underscored ones are where Python keeps the functions of the others,
so that ``from os import urandom`` does not slip through under the name of ``posix``."""

BUILTINS: dict[str, str] = {
    "open": "use self.port.save", "print": "use self.port.note", "input": "use on_request",
    **dict.fromkeys(("eval", "exec", "compile", "__import__", "__builtins__", "breakpoint", "globals"), PLAIN),
    **dict.fromkeys(("id", "hash"), ADDRESS),
}  # fmt: skip

METHODS: dict[str, str] = {
    "popitem": "which item it takes is no decision of yours; name the key",
    **dict.fromkeys(("__globals__", "__builtins__", "__subclasses__", "__code__", "__closure__"), PLAIN),
}
"""Attributes refused on whatever object."""

POISONED: tuple[str, ...] = (
    "time.time", "time.time_ns", "time.monotonic", "time.monotonic_ns", "time.perf_counter", "time.perf_counter_ns",
    "time.process_time", "time.process_time_ns", "time.thread_time", "time.sleep", "time.gmtime", "time.localtime",
    "time.ctime", "time.strftime",
    "random.random", "random.uniform", "random.randint", "random.randrange", "random.choice", "random.choices",
    "random.sample", "random.shuffle", "random.gauss", "random.normalvariate", "random.expovariate",
    "random.getrandbits", "random.seed", "random.Random.__init__",
    "secrets.token_bytes", "secrets.token_hex", "secrets.randbelow", "secrets.choice", "uuid.uuid1", "uuid.uuid4",
    "numpy.random.rand", "numpy.random.randn", "numpy.random.random", "numpy.random.randint", "numpy.random.choice",
    "numpy.random.normal", "numpy.random.uniform", "numpy.random.shuffle", "numpy.random.permutation",
    "numpy.random.exponential", "numpy.random.seed", "numpy.random.default_rng",
    "os.urandom", "os.getrandom", "os.getpid", "os.getenv", "os.open", "os.listdir", "os.system",
    "socket.socket.__init__", "socket.create_connection", "threading.Thread.start", "subprocess.Popen.__init__",
    "builtins.open", "builtins.print", "builtins.input", "builtins.breakpoint",
)  # fmt: skip
"""Callables that raise while a guarded step runs. `datetime` needs another way, see `sim.poison`; ``id`` and ``hash``
are called by Python's own classes, so they are poisoned in the policies' modules alone."""


def instead_of(dotted: str) -> str | None:
    """Return what to use in place of a dotted name, or None where it is free: the longest module named decides.

    >>> instead_of("numpy.random.rand")
    'use self.port.rng'
    >>> instead_of("numpy.linalg.norm") is None
    True
    """
    parts = dotted.split(".")
    if parts[0] == "builtins" and len(parts) > 1:
        return BUILTINS.get(parts[1])
    for end in range(len(parts), 0, -1):
        if instead := MODULES.get(".".join(parts[:end])):
            return instead
    return None
