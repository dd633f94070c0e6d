"""What programs import from here when they trace; `aktis.util.tracing` has the rest."""
