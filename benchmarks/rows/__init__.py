"""Loads that use no runtime: the limits of the machine."""
