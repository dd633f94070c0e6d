"""The ``aktis`` command."""
