"""Fleets: physics and elementwise policy of every device, one row a device.

`stock` draws a fleet, `physics` and `reading` advance its rows, `window`, `day` and `run` take many
through a run without nodes. `village` is the same physics under the devices that run full nodes.
"""
