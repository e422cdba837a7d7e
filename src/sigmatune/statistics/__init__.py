"""Statistics: what the difference of two plans is worth."""
