"""When things fail and for how long: fitted lives and downtimes, bursts with one cause, and failures that load brings.

``lives``: the fitted laws; ``bursts``: how many fail together; ``cascades``: hazards that grow with load.
"""

from models.failures.bursts import BURSTS, Bursts, sizes_of_bursts
from models.failures.cascades import life_under_load, load_factor
from models.failures.lives import FITS, availability

__all__ = ["BURSTS", "FITS", "Bursts", "availability", "life_under_load", "load_factor", "sizes_of_bursts"]
