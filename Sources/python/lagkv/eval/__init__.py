"""What eviction costs in answers, and what recall gives back: `python -m lagkv.eval --help`."""
