"""What a client does: hold data, train, and, if malicious, poison or forge."""
