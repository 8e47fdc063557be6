"""The verb `mga tool quantize`."""


def quantize() -> None:
    """Quantize."""
