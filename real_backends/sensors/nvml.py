"""NVIDIA GPUs through NVML, where the module ``pynvml`` and a driver are there; optional.

Gives ``die_c``: the hottest GPU's. A GPU's load is not read as the owner's: most of it would be the village's own.
"""

from __future__ import annotations

import importlib
from typing import Any

from real_backends.sensors.fields import Partial


class NvmlSource:
    """Reads every GPU.

    Args:
        module: ``pynvml``, or what stands for it in a test.

    Raises:
        OSError: the module or the driver is not there, or there is no GPU, in one line.
    """

    def __init__(self, module: Any = None) -> None:
        if module is None:
            try:
                module = importlib.import_module("pynvml")
            except ImportError:
                raise OSError("nvml: no module pynvml (package nvidia-ml-py)") from None
        self._nvml = module
        try:
            module.nvmlInit()
            self._gpus = [module.nvmlDeviceGetHandleByIndex(i) for i in range(module.nvmlDeviceGetCount())]
        except module.NVMLError as error:
            raise OSError(f"nvml: {error}") from None
        if not self._gpus:
            raise OSError("nvml: no GPU")
        self.fields = frozenset(("die_c",))

    def read(self, now_ns: int) -> Partial:
        """Return the hottest GPU's temperature; nothing if one of them does not answer."""
        nvml = self._nvml
        try:
            warmth = [float(nvml.nvmlDeviceGetTemperature(gpu, nvml.NVML_TEMPERATURE_GPU)) for gpu in self._gpus]
        except nvml.NVMLError:
            return {}
        return {"die_c": max(warmth)}
