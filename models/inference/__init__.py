"""What inference costs: seconds of language models on devices, from bytes moved and operations done.

`models.inference.predict` puts names, factors and laws together; it reads the device library, so it is imported by its
own name.
"""

from models.inference.catalogue import CATALOGUE, find_model
from models.inference.law import Device, decode_step_s, hop_s, prefill_s
from models.inference.quantisation import FORMATS, Format, find_format
from models.inference.served import SHAPES
from models.inference.shapes import Shape

__all__ = [
    "CATALOGUE",
    "FORMATS",
    "SHAPES",
    "Device",
    "Format",
    "Shape",
    "decode_step_s",
    "find_format",
    "find_model",
    "hop_s",
    "prefill_s",
]
