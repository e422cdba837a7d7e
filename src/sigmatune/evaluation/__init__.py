"""Evaluation: metrics that carry their settings, the leaderboard, and a test of metrics."""
