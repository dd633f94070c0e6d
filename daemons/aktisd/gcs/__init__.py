"""The cluster's metadata service."""
