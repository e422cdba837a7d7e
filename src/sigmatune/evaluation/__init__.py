"""Evaluation: metrics that carry their settings, the leaderboard, and a doctor for metrics."""
