"""A static site of many runs: a list of them, leaderboards, each run's page, and the history of metrics."""
