"""The client's policies: what happens in a driver or worker around the C++ core."""
