"""The verb `mga decontaminate`."""
