"""The AgrAmplifier paper (ACSAC 2022): its published values, and ours beside them."""
