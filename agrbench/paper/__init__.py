"""The tables of AgrAmplifier (ACSAC 2022), one a CSV file, values as printed."""
