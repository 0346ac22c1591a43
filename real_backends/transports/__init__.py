"""Transports: how frames travel between nodes. All have the shape of `frames.Transport`."""
