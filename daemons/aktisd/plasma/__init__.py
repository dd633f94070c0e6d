"""The daemon around one node's object store."""
