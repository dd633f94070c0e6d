"""Runtime environments as their user writes them: checked, packed, merged, named."""
