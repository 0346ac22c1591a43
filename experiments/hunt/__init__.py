"""The hunt for bad seeds: trials in arenas, swarms of them, what they break, and the smallest case that still does."""
