"""Internals that published libraries use all the same."""
