"""Settings for every test."""

from hypothesis import settings

# A shared machine stalls: pytest-timeout bounds a test, a deadline per example would only make it flaky.
settings.register_profile("aktis", deadline=None)
settings.load_profile("aktis")
