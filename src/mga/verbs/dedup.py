"""The verb `mga dedup`."""
