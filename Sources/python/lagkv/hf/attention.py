"""The attention function "lagkv": torch's scaled dot product over the hot view, and the moment in which recall happens.

A model calls it for every layer. Layers that a session holds are attended here; all others (sliding windows, models that run
without a session) go to transformers' own "sdpa" as if this function were not there. It builds its own masks, because what is
resident differs between layers and grows by recall in the middle of a forward call: every past row is visible, whatever its
position, and the new tokens are causal among themselves.
"""

from __future__ import annotations

import contextvars
import functools
import inspect

import torch
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS, AttentionMaskInterface, sdpa_mask
from transformers.modeling_utils import AttentionInterface

NAME = "lagkv"

# The cache of the forward call that is under way: set and reset by the cache's hooks, by thread.
running = contextvars.ContextVar("lagkv_running", default=None)


# What a model may ask of its attention and "lagkv" does not have: to leave it out would be another model.
_UNKNOWN = ("softcap", "s_aux", "position_bias")


def attend(module, query, key, value, attention_mask, dropout=0.0, scaling=None, **kwargs):
    """transformers' attention signature. query [batch, query heads, m, dim]; the result [batch, m, query heads, value dim]."""
    cache = running.get()
    sequences = cache.sequences_of(module.layer_idx) if cache is not None else None
    if sequences is None:
        return sdpa_attention_forward(module, query, key, value, attention_mask, dropout, scaling, **kwargs)
    for what in _UNKNOWN:
        if kwargs.get(what) is not None:
            raise ValueError(f'{type(module).__name__} attends with {what}, which "lagkv" does not have')
    if len(sequences) == 1 and sequences[0].incoming == query.shape[2]:
        return _attend_one(module, sequences[0], query, key, value, dropout, scaling), None
    # Independent sessions hold different numbers of rows: one after the other, without padding what lies in shared memory.
    output = query.new_zeros(query.shape[0], query.shape[2], query.shape[1], cache.geometry.value_dim)
    for index, sequence in enumerate(sequences):
        if m := sequence.incoming:
            view = sequence.view(module.layer_idx)
            output[index, -m:] = _attend_one(module, sequence, query[index : index + 1, :, -m:], *view, dropout, scaling)[0]
    return output, None


def _attend_one(module, sequence, query, key, value, dropout, scaling):
    scaling = query.shape[-1] ** -0.5 if scaling is None else scaling
    if sequence.asked(module.layer_idx, query[0], scaling):
        key, value = sequence.view(module.layer_idx)
    m, past = query.shape[2], key.shape[2] - query.shape[2]
    mask = None if m == 1 or past == 0 else _causal(m, past, query.device)
    if mask is not None and query.device.type == "cpu":
        # transformers would repeat the keys and values of the whole view for each query head of a group.
        grouped = query.shape[1] != key.shape[1]
        output = torch.nn.functional.scaled_dot_product_attention(
            query, key, value, attn_mask=mask, dropout_p=dropout, scale=scaling, enable_gqa=grouped
        )
        return output.transpose(1, 2).contiguous()
    return sdpa_attention_forward(module, query, key, value, mask, dropout, scaling)[0]


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
    model.set_attn_implementation(NAME)
    decoder = model.get_decoder()
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
