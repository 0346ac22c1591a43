"""NVML over a stand-in with its interface, and the real one where there is a GPU."""

from __future__ import annotations

import math
from typing import Any

import pytest

from real_backends.sensors.composite import Composite
from real_backends.sensors.nvml import NvmlSource


class Nvml:
    """The part of ``pynvml`` that is used."""

    class NVMLError(Exception):
        """As the module's."""

    NVML_TEMPERATURE_GPU = 0

    def __init__(self, *celsius: int, driver: bool = True) -> None:
        self.celsius: list[int | None] = list(celsius)
        self.driver = driver

    def nvmlInit(self) -> None:
        """Fail without a driver."""
        if not self.driver:
            raise self.NVMLError("Driver Not Loaded")

    def nvmlDeviceGetCount(self) -> int:
        """Count GPUs."""
        return len(self.celsius)

    def nvmlDeviceGetHandleByIndex(self, index: int) -> int:
        """A handle is its index here."""
        return index

    def nvmlDeviceGetTemperature(self, handle: int, sensor: int) -> int:
        """A GPU that fell off the bus does not answer."""
        value = self.celsius[handle]
        if value is None:
            raise self.NVMLError("GPU is lost")
        return value


def test_the_hottest_gpu_is_the_die() -> None:
    """Degrees as they are."""
    assert NvmlSource(Nvml(41, 67)).read(0) == {"die_c": 67.0}


def test_a_lost_gpu_makes_the_heat_unknown() -> None:
    """Of two GPUs one is gone: the hottest is not known any more, and it is counted."""
    module = Nvml(41, 67)
    sensors = Composite([NvmlSource(module)])
    module.celsius[1] = None

    assert math.isnan(sensors.read(0).die_c)
    assert sensors.gone == {"die_c": 1}


@pytest.mark.parametrize(
    ("module", "message"), [(Nvml(driver=False), "nvml: Driver Not Loaded"), (Nvml(), "nvml: no GPU")]
)
def test_without_a_gpu_it_is_one_line(module: Any, message: str) -> None:
    """Driver and GPU are told apart."""
    with pytest.raises(OSError, match=message):
        NvmlSource(module)


def test_a_real_gpu_is_read() -> None:
    """Where there is one, its temperature is one of a machine that runs."""
    try:
        source = NvmlSource()
    except OSError as error:
        pytest.skip(str(error))
    assert 0 < source.read(0)["die_c"] < 110
