"""Runtime environments of a node: which are wanted, how they are set up, what they leave on the disk."""
