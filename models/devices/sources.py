"""Where a number of the library comes from: one letter beside every number of `library.csv`, spelled out here."""

from __future__ import annotations

from types import MappingProxyType

SOURCES = MappingProxyType(
    {
        "s": "maker's specification (data sheet or product page), from memory; nominal mAh times 3.85 V for phones",
        "w": "computed from the memory's width and rate in the maker's specification",
        "u": "published peak of the GPU or processor, FP16 at twice FP32 where it has it, rounded, from memory",
        "b": "launch article (memory clock)",
        "4": "llama.cpp discussion 4167",
        "e": "exo CHIP_FLOPS table",
        "g": "measured at the wall: geerlingguy/ai-benchmarks",
        "a": "aiconfigurator system file",
        "m": "ML.ENERGY: measured while serving an 8B model",
        "t": "prima.cpp test bed",
        "f": "fitted on published token rates (models.devices.rows)",
        "p": "derived from the vendor's power profile (models.power.compact)",
        "n": "nominal: an assumption, no measurement behind it",
    }
)
OF_KIND = "its kind's (models.devices.kinds)"
BY_RULE = "a rule over its other fields, an assumption (models.power.draw.leak_slope_w_per_k)"
BY_LIST = "sorted so by us"
