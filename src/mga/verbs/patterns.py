"""The verb `mga patterns`."""
