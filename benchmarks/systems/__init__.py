"""How each system is measured, one module per kind of system."""
