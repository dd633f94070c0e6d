"""Programs that show Aktis at work. Each runs by itself: ``python -m examples.NAME``."""
