"""The name of the embedder that needs no other: kept apart, so that the command line can show it at no cost."""

DEFAULT = "all-minilm-l6-v2"
