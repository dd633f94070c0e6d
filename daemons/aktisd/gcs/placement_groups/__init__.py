"""Placement groups: resources that are reserved together, on one node or over several."""
