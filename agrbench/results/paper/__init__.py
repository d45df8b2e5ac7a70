"""The AgrAmplifier paper (ACSAC 2022): its published values, our runs that match them, and tables of both."""
