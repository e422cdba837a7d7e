"""Workflows: several parts put together into what people run."""
