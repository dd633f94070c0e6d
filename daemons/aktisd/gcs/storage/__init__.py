"""Durable state behind one interface: memory, SQLite or Redis, and the thread that writes to it."""
