"""A real run from end to end: `python -m lagkv.demo`. The README's first command builds what it needs and calls it."""
