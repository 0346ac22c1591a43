"""The checker's verdicts are the published ones of Porcupine on Jepsen's histories of etcd and on a key-value service.

Of the 102 and 6 histories four and two stand beside this file (`porcupine/README.md`); the others are judged where the
folder of data has them.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from scenarios.checks.linear import Operation, check
from scenarios.checks.linear_models import KEY_VALUE, REGISTER

HERE = Path(__file__).parent / "porcupine"
DATA = Path(os.environ.get("VILLAGETWIN_DATA", Path(__file__).resolve().parents[3] / "shared" / "data")) / "porcupine"
ETCD = [number for number in range(103) if number != 95]  # 95 is missing there: its cluster did not start
ETCD_LINEARIZABLE = {
    2, 5, 7, 18, 25, 31, 38, 45, 48, 49, 51, 53, 56, 67, 75, 76, 80, 87, 92, 98, 100, 101, 102,
}  # fmt: skip
"""Published in porcupine_test.go (anishathalye/porcupine); the other 79 are not linearizable."""
KV = {f"c{clients}-{verdict}": verdict == "ok" for clients in ("01", "10", "50") for verdict in ("ok", "bad")}

ETCD_LINE = re.compile(r"INFO\s+jepsen\.util\s+-\s+(\d+)\s+:(\w+)\s+:(\w+)\s+(.+)")
KV_LINE = re.compile(r'\{:process (\d+), :type :(\w+), :f :(\w+), :key "(.*?)", :value (?:nil|"(.*)")\}')


def etcd(text: str) -> list[Operation]:
    """Read a Jepsen log of one register; what timed out has no answer, and a read that did is left out."""
    open_: dict[str, Operation] = {}
    done = []
    for at, line in enumerate(text.splitlines()):
        found = ETCD_LINE.fullmatch(line)
        if found is None:
            continue
        process, kind, verb, value = found.groups()
        if kind == "invoke":
            values = [int(number) for number in re.findall(r"\d+", value)]
            open_[process] = Operation(process, (verb, *values), at)
        elif value != ":timed-out":
            read = None if verb != "read" or value == "nil" else int(value)
            done.append(open_.pop(process)._replace(answered=at, answer=kind == "ok" if verb == "cas" else read))
    return done + [one for one in open_.values() if one.asked != ("read",)]


def key_value(text: str) -> list[Operation]:
    """Read a log of a key-value service."""
    open_: dict[str, Operation] = {}
    done = []
    for at, line in enumerate(text.splitlines()):
        found = KV_LINE.fullmatch(line)
        assert found is not None, line
        process, kind, verb, key, value = found.groups()
        if kind == "invoke":
            open_[process] = Operation(process, (verb, key) if verb == "get" else (verb, key, value), at)
        else:
            done.append(open_.pop(process)._replace(answered=at, answer=value))
    return done + list(open_.values())


def _text(name: str) -> str:
    for path in (HERE / Path(name).name, DATA / name):
        if path.is_file():
            return path.read_text()
    pytest.skip(f"no history at {DATA / name}; set VILLAGETWIN_DATA")


@pytest.mark.parametrize("number", ETCD)
def test_etcd(number: int) -> None:
    """A history of etcd is linearizable or not as published."""
    history = etcd(_text(f"jepsen/etcd_{number:03d}.log"))
    assert check(REGISTER, history).linearizable is (number in ETCD_LINEARIZABLE)


@pytest.mark.parametrize("name", KV)
def test_key_value(name: str) -> None:
    """A history of the key-value service is linearizable or not as published."""
    history = key_value(_text(f"kv/{name}.txt"))
    assert check(KEY_VALUE, history).linearizable is KV[name]
