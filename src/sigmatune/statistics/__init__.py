"""Statistics: distances between samples, and whether two plans differ significantly."""
