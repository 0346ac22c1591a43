"""Heat laws: a device as a short chain of warm nodes against ambient air. Nothing here decides anything.

`network` advances a chain exactly, `crossing` says when a node meets a level, `bodies` are the kinds of device, and
`phone_fit` is one phone fitted to its logs.
"""
