"""The environment in which the peers are measured."""
