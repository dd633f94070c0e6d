"""aktis-plasma: the daemon around the C++ object store of one node."""
