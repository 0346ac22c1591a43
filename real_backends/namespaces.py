"""A network of the kernel's for one local run: a namespace for each node, joined by a bridge, and cuts as routes.

Each namespace is held open by a process that only reads from a pipe of the launcher's. Whatever becomes of the
launcher, the pipe ends, the holders and the nodes end, and the kernel takes the namespaces with all their links away:
nothing has a name that could be left over. All that the machine itself sees is one link, ``vt-K``, whose other end is
the bridge's, and which goes with it.

A cut is a blackhole route in the namespaces of both ends: below TLS and TCP, which are not told and send again by their
own timers. Needs Linux, iproute2, util-linux, and the right to make namespaces and links (in practice: root).
"""

from __future__ import annotations

import contextlib
import subprocess
from collections import Counter, defaultdict
from collections.abc import Collection, Sequence

from real_backends.identity import OWNER
from real_backends.transports.tls import Address

PREFIX = "198.18"
"""First half of every address: of the block kept for benchmarks between devices (RFC 2544, RFC 6890), never routed."""
NETWORKS_MAX = 256  # runs on one machine: the third number of an address
PORT = 7000  # of every node: each has an address of its own, so that any port is free
HOLDER = ("unshare", "--net", "cat")

Pair = tuple[str, str]


class NotPermitted(RuntimeError):
    """This machine lets nobody make namespaces, or not us; the message is one line that says why."""


class Namespaces:
    """The network of one run. Use it as a context manager.

    Args:
        names: the nodes, at most 32.

    Raises:
        NotPermitted: the network cannot be made; what was begun is taken away.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self._holders: dict[str, subprocess.Popen[bytes]] = {}
        self._apart: Counter[Pair] = Counter()  # spells that part two nodes
        self._link = ""
        try:
            network = self._build(names)
        except (OSError, NotPermitted) as error:
            self.close()
            raise NotPermitted(str(error)) from None
        self.addresses: dict[str, Address] = {
            name: (f"{network}.{number}", PORT) for number, name in enumerate((OWNER, *names), 1)
        }

    def __enter__(self) -> Namespaces:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def enter(self, name: str) -> tuple[str, ...]:
        """Return the words before a command that make it run in a node's namespace, as the same process."""
        return ("nsenter", f"--net=/proc/{self._holders[name].pid}/ns/net")

    def part(self, pairs: Collection[Pair]) -> None:
        """Cut the two nodes of each pair off from one another; a pair is always named in the same order, and once."""
        self._apart.update(pairs)
        self._route("add", [pair for pair in pairs if self._apart[pair] == 1])

    def join(self, pairs: Collection[Pair]) -> None:
        """Take one cut between each pair away; another spell's stays."""
        self._apart.subtract(pairs)
        self._route("del", [pair for pair in pairs if self._apart[pair] == 0])

    def close(self) -> None:
        """Take everything away; nodes that still run lose their network."""
        if self._link:
            _run("ip", "link", "del", self._link, missing_ok=True)
            self._link = ""
        for holder in self._holders.values():
            holder.kill()
            holder.communicate()
        self._holders.clear()

    def _build(self, names: Sequence[str]) -> str:
        """Make every namespace and link; return the first three numbers of the addresses."""
        for name in (OWNER, *names):  # the owner stays outside; what is held under its name is the bridge's
            self._holders[name] = _hold()
        bridge = self._holders[OWNER].pid
        self._inside(OWNER, "link add bridge type bridge\nlink set bridge up\n")
        third = self._join_the_machine(bridge)
        network = f"{PREFIX}.{third}"
        _run("ip", "addr", "add", f"{network}.1/24", "dev", self._link)
        _run("ip", "link", "set", self._link, "up")
        ports = ["port0", *(f"port{number}" for number, _ in enumerate(names, 1))]
        self._inside(OWNER, "".join(
            f"link add {port} type veth peer name eth0 netns {self._holders[name].pid}\n"
            for port, name in zip(ports[1:], names, strict=True)
        ))  # fmt: skip
        self._inside(OWNER, "".join(f"link set {port} master bridge up\n" for port in ports))
        for number, name in enumerate(names, 2):
            self._inside(name, f"link set lo up\naddr add {network}.{number}/24 dev eth0\nlink set eth0 up\n")
        return network

    def _join_the_machine(self, bridge: int) -> int:
        """Make the one link that the machine sees, under the first free number, and return that."""
        for third in range(NETWORKS_MAX):
            with contextlib.suppress(FileExistsError):
                link = f"vt-{third}"
                _run("ip", "link", "add", link, "type", "veth", "peer", "name", "port0", "netns", str(bridge))
                self._link = link
                return third
        raise NotPermitted(f"vt-0 to vt-{NETWORKS_MAX - 1} are all in use")

    def _route(self, change: str, pairs: Collection[Pair]) -> None:
        lines: defaultdict[str, str] = defaultdict(str)
        for a, b in pairs:
            lines[a] += f"route {change} blackhole {self.addresses[b][0]}/32\n"
            lines[b] += f"route {change} blackhole {self.addresses[a][0]}/32\n"
        for name, batch in lines.items():
            self._inside(name, batch)

    def _inside(self, name: str, batch: str) -> None:
        """Run lines of ip(8) in the namespace held under a name."""
        _run(*self.enter(name), "ip", "-batch", "-", given=batch)


def _hold() -> subprocess.Popen[bytes]:
    """Start a process with a network namespace of its own, and return once it is there."""
    # A session of its own: Ctrl-C reaches the whole group, and the network must stand until the nodes have stopped.
    holder = subprocess.Popen(
        HOLDER, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
    )
    assert holder.stdin is not None
    assert holder.stdout is not None
    with contextlib.suppress(BrokenPipeError):
        holder.stdin.write(b"\n")
        holder.stdin.flush()
    if not holder.stdout.readline():  # what reads and repeats the line runs in the namespace already
        raise NotPermitted(holder.communicate()[1].decode(errors="replace").strip() or f"{HOLDER[0]} ended")
    return holder


def _run(*command: str, given: str = "", missing_ok: bool = False) -> None:
    """Run a command.

    Raises:
        FileExistsError: it says that what it should make is there.
        NotPermitted: it failed otherwise.
    """
    done = subprocess.run(command, input=given, capture_output=True, text=True, check=False)
    if done.returncode == 0 or missing_ok:
        return
    said = (done.stderr or done.stdout).strip().splitlines()
    why = said[0] if said else f"{command[0]} ended with exit code {done.returncode}"
    if "File exists" in why:
        raise FileExistsError(why)
    raise NotPermitted(why)
