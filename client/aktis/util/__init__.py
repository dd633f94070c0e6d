"""Tools on top of tasks, actors and objects."""
