"""The leaderboard: take records in, and write its page."""
