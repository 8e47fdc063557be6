"""The verb `mga clean`."""
