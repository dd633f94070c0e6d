"""What programs look for in ``ray.util`` and ``aktis.util`` does not have."""
