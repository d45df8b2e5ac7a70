"""What defenses cost: time and memory of the server alone, without training or attack."""
