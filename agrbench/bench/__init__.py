"""Benchmarks: what defenses cost in time and memory of the server alone, without training or attack."""
