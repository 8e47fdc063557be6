"""The verb `mga diversity`."""
