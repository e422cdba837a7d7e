"""Workflows: combinations of several parts for users."""
