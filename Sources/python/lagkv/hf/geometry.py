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
    attention) stay in transformers' own cache types. latent: keys and values are what a layer expands into them (DeepSeek's
    multi-head latent attention): one head, whose key is the latent and whose value is the part that is rotated."""

    layers: tuple[int, ...]
    kv_heads: int
    key_dim: int
    value_dim: int
    latent: bool
    dtype: str
    positions: int | None
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
        latent = any(hasattr(module, "expand_kv") for module in model.get_decoder().modules())
        shapes = {index: (_latent_shape if latent else _shape)(_of_layer(config, index)) for index in layers}
        if len(set(shapes.values())) > 1:
            raise ValueError(f"{type(model).__name__}: a session's layers are of one shape (KV heads, key, value dim): {shapes}")
        kv_heads, key_dim, value_dim = shapes[layers[0]]
        return cls(
            layers=layers,
            kv_heads=kv_heads,
            key_dim=key_dim,
            value_dim=value_dim,
            latent=latent,
            dtype=DTYPES[model.dtype],
            positions=getattr(config, "max_position_embeddings", None),
            fingerprint=_fingerprint(model, config, layers),
        )

    def capacity(self) -> int:
        """As many tokens as the model has positions."""
        if self.positions is None:
            raise ValueError("the model's configuration names no greatest position: say capacity=, the most tokens that will come")
        return self.positions


def _of_layer(config, index: int):
    """The configuration of one layer, where they differ."""
    return config.per_layer_config[index] if getattr(config, "is_heterogeneous", False) else config


def _shape(config) -> tuple[int, int, int]:
    """KV heads, key dim, value dim."""
    dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    kv_heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    return kv_heads, dim, getattr(config, "v_head_dim", None) or dim


def _latent_shape(config) -> tuple[int, int, int]:
    return 1, config.kv_lora_rank, config.qk_rope_head_dim


def _fingerprint(model, config, layers: tuple[int, ...]) -> str:
    """The same for the same weights wherever they lie, another for another model, revision, type or rotary setting."""
    digest = hashlib.sha256()
    meaning = ("model_type", "hidden_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads", "head_dim")
    described = {key: getattr(_of_layer(config, layers[0]), key, None) for key in meaning}
    described["rope"] = getattr(config, "rope_parameters", None)
    digest.update(json.dumps(described, sort_keys=True, default=str).encode())
    # A part of every weight: a fine-tune or an adapter may have changed but a few of them.
    for name, weight in model.get_decoder().named_parameters():
        part = weight.detach().reshape(-1)[:1024].contiguous().cpu()
        digest.update(name.encode() + part.view(torch.uint8).numpy().tobytes())
    return f"{config.model_type}/{len(layers)} layers/{DTYPES[model.dtype]}/{digest.hexdigest()[:24]}"
