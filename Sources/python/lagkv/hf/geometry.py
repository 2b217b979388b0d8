"""What a session must know of a model: which layers it holds, their shape, and a fingerprint of the numbers' meaning."""

from __future__ import annotations

import dataclasses
import hashlib
import json

import torch
import transformers
from transformers.cache_utils import DynamicLayer

# Element types as the daemon names them.
DTYPES = {torch.float32: "float32", torch.float16: "float16", torch.bfloat16: "bfloat16"}


@dataclasses.dataclass(frozen=True)
class ModelGeometry:
    """layers: the model's index of each layer that the session holds, in order. The others (sliding windows, linear
    attention) stay in transformers' own cache types."""

    layers: tuple[int, ...]
    kv_heads: int
    key_dim: int
    value_dim: int
    dtype: str
    positions: int
    fingerprint: str

    @classmethod
    def of(cls, model) -> ModelGeometry:
        """Reads the model's configuration and a few of its weights. Raises ValueError where a session cannot hold it."""
        config = model.config.get_text_config(decoder=True)
        if model.dtype not in DTYPES:
            raise ValueError(f"the model computes in {model.dtype}; a session holds {', '.join(DTYPES.values())}")
        own = transformers.DynamicCache(config=config).layers
        layers = tuple(index for index, layer in enumerate(own) if type(layer) is DynamicLayer)
        if not layers:
            raise ValueError(f"{type(model).__name__} has no layer of full attention: there is nothing for a session to hold")
        dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        return cls(
            layers=layers,
            kv_heads=getattr(config, "num_key_value_heads", None) or config.num_attention_heads,
            key_dim=dim,
            value_dim=getattr(config, "v_head_dim", None) or dim,
            dtype=DTYPES[model.dtype],
            positions=config.max_position_embeddings,
            fingerprint=_fingerprint(model, config, layers),
        )


def _fingerprint(model, config, layers: tuple[int, ...]) -> str:
    """The same for the same weights wherever they lie, another for another model, revision, type or rotary setting."""
    digest = hashlib.sha256()
    meaning = ("model_type", "hidden_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads", "head_dim")
    described = {key: getattr(config, key, None) for key in meaning}
    described["rope"] = getattr(config, "rope_parameters", None)
    digest.update(json.dumps(described, sort_keys=True, default=str).encode())
    # A part of every weight: a fine-tune or an adapter may have changed but a few of them.
    for name, weight in model.get_decoder().named_parameters():
        part = weight.detach().reshape(-1)[:1024].contiguous().cpu()
        digest.update(name.encode() + part.view(torch.uint8).numpy().tobytes())
    return f"{config.model_type}/{len(layers)} layers/{DTYPES[model.dtype]}/{digest.hexdigest()[:24]}"
