"""The attention function "lagkv": torch's scaled dot product over the hot view, and the moment in which recall happens.

A model calls it for every layer. Layers that a session holds are attended here; all others (sliding windows, models that run
without a session) go to transformers' own "sdpa" as if this function were not there. It builds its own masks, because what is
resident differs between layers and grows by recall in the middle of a forward call: every past row is visible, whatever its
position, and the new tokens are causal among themselves.

Models that ask for what the scaled dot product lacks (gpt-oss a sink in the softmax, Gemma 2 capped logits) say that "sdpa" is
not for them. They get "lagkv-eager": the same, with the model's own attention in plain torch in the place of "sdpa".
"""

from __future__ import annotations

import contextvars
import functools
import inspect
import sys

import torch
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS, AttentionMaskInterface, eager_mask, sdpa_mask
from transformers.modeling_utils import AttentionInterface

NAME = "lagkv"
EAGER = "lagkv-eager"

# The cache of the forward call that is under way: set and reset by the cache's hooks, by thread.
running = contextvars.ContextVar("lagkv_running", default=None)


# What a model may ask of its attention that "sdpa" leaves out: without it, it would be another model.
_NOT_IN_SDPA = ("softcap", "s_aux", "position_bias")


def attend(module, query, key, value, attention_mask, dropout=0.0, scaling=None, own=sdpa_attention_forward, **kwargs):
    """transformers' attention signature. query [batch, query heads, m, dim]; the result [batch, m, query heads, value dim].
    own: what attends where no session is concerned."""
    if own is sdpa_attention_forward:
        for what in _NOT_IN_SDPA:
            if kwargs.get(what) is not None:
                raise ValueError(f'{type(module).__name__} attends with {what}, which "{NAME}" does not have')
    kwargs |= {"dropout": dropout, "scaling": query.shape[-1] ** -0.5 if scaling is None else scaling}
    cache, layer = running.get(), _layer(module)
    sequences = cache.sequences_of(layer) if cache is not None else None
    if sequences is None:
        return own(module, query, key, value, attention_mask, **kwargs)
    shared = layer != module.layer_idx
    if len(sequences) == 1 and sequences[0].incoming == query.shape[2]:
        if shared or sequences[0].asked(layer, query[0], kwargs["scaling"]):
            key, value = _view(module, sequences[0], layer)
        return _attend_one(module, query, key, value, own, kwargs), None
    # Independent sessions hold different numbers of rows: one after the other, without padding what lies in shared memory.
    output = query.new_zeros(query.shape[0], query.shape[2], query.shape[1], value.shape[-1])
    for index, sequence in enumerate(sequences):
        if m := sequence.incoming:
            newest = query[index : index + 1, :, -m:]
            if not shared:
                sequence.asked(layer, newest[0], kwargs["scaling"])
            output[index, -m:] = _attend_one(module, newest, *_view(module, sequence, layer), own, kwargs)[0]
    return output, None


def _in_plain_torch(module, *arguments, **kwargs):
    """A model's own attention function, which stands beside its modules."""
    return sys.modules[type(module).__module__].eager_attention_forward(module, *arguments, **kwargs)


def _layer(module) -> int:
    """The layer whose keys and values a module attends over: its own, or an earlier one's (the last layers of Gemma 4)."""
    if not getattr(module, "is_kv_shared_layer", False):
        return module.layer_idx
    kinds = zip(module.config.kv_sharing_modes, module.config.layer_types, strict=True)
    return max(index for index, kind in enumerate(kinds) if kind == ("store", module.layer_type))


def _view(module, sequence, layer: int) -> tuple[torch.Tensor, torch.Tensor]:
    """What a module attends over: a layer's rows, or what it makes of them where it caches latents (DeepSeek's MLA)."""
    view = sequence.view(layer)
    return module.expand_kv(*view) if hasattr(module, "expand_kv") else view


def _attend_one(module, query, key, value, own, kwargs: dict) -> torch.Tensor:
    """One sequence's new tokens over the past and themselves."""
    m, past = query.shape[2], key.shape[2] - query.shape[2]
    if own is _in_plain_torch:
        mask = None if m == 1 else query.new_zeros(1, 1, m, past + m)
        if mask is not None:
            mask.masked_fill_(~_causal(m, past, query.device), torch.finfo(query.dtype).min)
        return own(module, query, key, value, mask, **kwargs)[0]
    mask = None if m == 1 or past == 0 else _causal(m, past, query.device)
    if mask is not None and query.device.type == "cpu":
        # transformers would repeat the keys and values of the whole view for each query head of a group.
        output = torch.nn.functional.scaled_dot_product_attention(
            query, key, value, attn_mask=mask, dropout_p=kwargs["dropout"], scale=kwargs["scaling"],
            enable_gqa=query.shape[1] != key.shape[1],
        )  # fmt: skip
        return output.transpose(1, 2).contiguous()
    return own(module, query, key, value, mask, **kwargs)[0]


@functools.lru_cache(maxsize=2)
def _causal(m: int, past: int, device: torch.device) -> torch.Tensor:
    """[m, past + m], true where row i may see column j: the past, and new tokens up to itself. All layers of a call share it;
    it is as long as the session, so it goes with the call."""
    return torch.ones(m, past + m, dtype=torch.bool, device=device).tril(past)


def attach(model) -> None:
    """Sets the model to "lagkv", and lets it tell a LagKVCache when a forward call begins and ends. Harmless to repeat."""
    if NAME not in ALL_MASK_ATTENTION_FUNCTIONS:
        AttentionInterface.register(NAME, attend)
        AttentionMaskInterface.register(NAME, sdpa_mask)
        AttentionInterface.register(EAGER, functools.partial(attend, own=_in_plain_torch))
        AttentionMaskInterface.register(EAGER, eager_mask)
    decoder = model.get_decoder()
    name = NAME if decoder._supports_sdpa else EAGER
    model.set_attn_implementation(name)
    if decoder.config._attn_implementation != name:
        raise ValueError(f"{type(model).__name__} computes its attention by itself: transformers sets no other function for it")
    if not getattr(decoder, "_tells_lagkv", False):
        decoder.register_forward_pre_hook(_before, with_kwargs=True)
        # Also after a call that raised, whose output is None.
        decoder.register_forward_hook(_after, with_kwargs=True, always_call=True)
        decoder._tells_lagkv = True


def _before(decoder, arguments, named) -> None:
    if (cache := _session_cache(named)) is not None:
        ids = named.get("input_ids", arguments[0] if arguments else None)
        cache.begin(ids, (named["inputs_embeds"] if ids is None else ids).shape, named.get("attention_mask"))
        running.set(cache)


def _after(decoder, arguments, named, output) -> None:
    if (cache := _session_cache(named)) is not None:
        running.set(None)
        _causal.cache_clear()
        cache.abandon() if output is None else cache.commit()


def _session_cache(named: dict):
    """The cache of a call if it is one of ours. transformers renamed the argument from `past_key_values` to `cache`."""
    cache = named.get("cache", named.get("past_key_values"))
    return cache if hasattr(cache, "sequences_of") else None


def forward(model, ids: torch.Tensor, cache, **options):
    """One forward call without gradients, whatever the installed transformers calls the cache's argument."""
    with torch.inference_mode():
        return model(ids, **{cache_argument(type(model)): cache}, use_cache=True, **options)


@functools.cache
def cache_argument(model_class: type) -> str:
    """What the installed transformers calls the cache that a model's calls take."""
    return "cache" if "cache" in inspect.signature(model_class.forward).parameters else "past_key_values"
