"""Sensors: each module yields `policies.readings.Row`, from this machine or from a recorded trace."""
