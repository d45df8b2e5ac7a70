"""Code that runs on clients: holding data, training and, if malicious, poisoning data or forging updates."""
