"""The daemon that owns one node: resources, workers, local scheduling."""
