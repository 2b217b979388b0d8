"""Hugging Face transformers on lagkvd: `pip install lagkv[hf]`.

import lagkv, lagkv.hf

client = lagkv.connect()
cache = lagkv.hf.LagKVCache.create(client, model, "chat-42", keep_ratio=0.125, recall=2)
model.generate(**inputs, past_key_values=cache)
"""

from .attention import cache_argument, forward
from .cache import LagKVCache
from .geometry import ModelGeometry
from .recall import Recall

__all__ = ["LagKVCache", "ModelGeometry", "Recall", "cache_argument", "forward"]
