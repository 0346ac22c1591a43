"""Link laws: access technologies, transfer times, TCP, delays, the backbone, loss in bursts and replayed rates.

``access``: technologies and their fitted distributions; ``tcp``: transfer times and bounds; ``delays``: one packet's;
``backbone``: coordinates instead of a matrix; ``loss``: Gilbert and Elliott's channel; ``replay``: rates of a trace.
"""

from models.links.access import DRAWN, FITS, LINKS, Link, draw_rates, least_rates
from models.links.delays import jitter_factor, one_way_s
from models.links.tcp import mathis_bytes_per_s, pftk_bytes_per_s, tcp_transfer_s, transfer_s

__all__ = [
    "DRAWN", "FITS", "LINKS", "Link", "draw_rates", "jitter_factor", "least_rates", "mathis_bytes_per_s",
    "one_way_s", "pftk_bytes_per_s", "tcp_transfer_s", "transfer_s",
]  # fmt: skip
