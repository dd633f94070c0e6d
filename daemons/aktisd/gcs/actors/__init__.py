"""Actors: their states, where they are placed, and the manager that drives both."""
