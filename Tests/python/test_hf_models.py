"""Families of models whose attention or cache is not Llama's: each on a session as it is by itself.

Tiny random models: quick, and nothing to fetch.
"""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed: .ci/python-env makes an environment with it")
transformers = pytest.importorskip("transformers", reason="transformers is not installed: .ci/python-env installs it")

from lagkv.hf import LagKVCache, forward  # noqa: E402

# transformers is renaming the argument to `cache`; users have both, and so have these tests.
pytestmark = [pytest.mark.filterwarnings("ignore:`past_key_values` is deprecated"), pytest.mark.usefixtures("one_thread")]

SMALL = dict(
    vocab_size=128, hidden_size=64, intermediate_size=96, num_hidden_layers=4, num_attention_heads=4, max_position_embeddings=1024,
    initializer_range=0.3, eos_token_id=None, bos_token_id=None, pad_token_id=0,
)  # fmt: skip
GROUPED = dict(SMALL, num_key_value_heads=2)
ALTERNATING = ["sliding_attention", "full_attention"]

# By family, what its configuration says beside the size, and what is particular about it.
FAMILIES = {
    "Qwen3": dict(GROUPED, head_dim=16),  # normalized keys
    "GPT2": dict(SMALL, n_positions=1024),  # learned positions, no group
    "GptOss": dict(GROUPED, head_dim=16, sliding_window=24, num_local_experts=4),  # a sink in the softmax, windows
    "Gemma2": dict(GROUPED, head_dim=16, sliding_window=24),  # capped logits, windows
    "Gemma4Text": dict(  # layers that attend over the keys of earlier ones, heads of two sizes
        GROUPED, num_hidden_layers=8, head_dim=8, global_head_dim=16, sliding_window=24, num_kv_shared_layers=3,
        layer_types=ALTERNATING * 4, hidden_size_per_layer_input=8, vocab_size_per_layer_input=128,
    ),
    "DeepseekV3": dict(  # latents
        SMALL, num_key_value_heads=4, kv_lora_rank=16, q_lora_rank=16, qk_rope_head_dim=8, qk_nope_head_dim=16, v_head_dim=16,
        n_routed_experts=4, n_group=2, topk_group=1, num_experts_per_tok=2, moe_intermediate_size=32, first_k_dense_replace=1,
    ),
    "Qwen3Next": dict(  # linear attention in three layers of four
        GROUPED, head_dim=16, num_experts=4, num_experts_per_tok=2, moe_intermediate_size=32, shared_expert_intermediate_size=32,
        linear_num_key_heads=2, linear_num_value_heads=2, linear_key_head_dim=16, linear_value_head_dim=16,
    ),
}  # fmt: skip
LATENT = ("DeepseekV3",)
# Padding runs through a linear layer's state in transformers as well: its batches are not what its sequences are alone.
ALONE_ONLY = ("Qwen3Next",)


@pytest.fixture(params=FAMILIES)
def family(request) -> str:
    return request.param


def made(family: str):
    """The model, attending as transformers chooses."""
    torch.manual_seed(7)
    config = getattr(transformers, f"{family}Config")(**FAMILIES[family])
    return transformers.AutoModelForCausalLM.from_config(config).eval()


def prompt(tokens: int, seed: int) -> torch.Tensor:
    return torch.randint(1, 128, (1, tokens), generator=torch.Generator().manual_seed(seed))


def said(model, ids: torch.Tensor, cache) -> torch.Tensor:
    return model.generate(ids, attention_mask=(ids != 0).long(), past_key_values=cache, max_new_tokens=16, do_sample=False)


def test_a_session_that_keeps_all_gives_every_logit_bit_for_bit(client, family):
    model = made(family)
    pieces = prompt(150, seed=1).split((90, 2, 1, 57), dim=1)
    own = transformers.DynamicCache(config=model.config)
    expected = [forward(model, piece, own).logits for piece in pieces]
    cache = LagKVCache.create(client, model, "all", keep_ratio=1, sink=4, lag=16)
    for piece, logits in zip(pieces, expected, strict=True):
        assert torch.equal(forward(model, piece, cache).logits, logits)


def test_recalling_every_chunk_gives_the_full_cache_back(client, family):
    if family in LATENT:
        pytest.skip("queries cannot rank latents: nothing is recalled")
    model = made(family)
    ids, question = prompt(150, seed=2), prompt(9, seed=3)
    own = transformers.DynamicCache(config=model.config)
    forward(model, ids, own)
    expected = forward(model, question, own).logits
    cache = LagKVCache.create(client, model, "recalled", keep_ratio=0.25, sink=4, lag=16, recall=100)
    forward(model, ids, cache)
    # Keys lie in another order, so that sums are rounded otherwise.
    torch.testing.assert_close(forward(model, question, cache).logits, expected, rtol=1e-3, atol=1e-3)
    cache.truncate(150)
    cache.release()
    forgetful = LagKVCache.create(client, model, "forgotten", keep_ratio=0.25, sink=4, lag=16)
    forward(model, ids, forgetful)
    assert (forward(model, question, forgetful).logits - expected).abs().max() > 0.1


def test_a_batch_of_sessions_answers_as_each_alone(client, family):
    if family in ALONE_ONLY:
        pytest.skip("padding changes this family's answers without a session as well")
    model = made(family)
    shape = dict(keep_ratio=0.25, sink=4, lag=16)
    ids = torch.cat((prompt(70, seed=4), torch.nn.functional.pad(prompt(41, seed=5), (29, 0))))
    together = said(model, ids, LagKVCache.create(client, model, ["b0", "b1"], **shape))[:, 70:]
    alone = [said(model, ids[:1], LagKVCache.create(client, model, "a0", **shape))[0, 70:]]
    alone.append(said(model, ids[1:, 29:], LagKVCache.create(client, model, "a1", **shape))[0, 41:])
    assert torch.equal(together, torch.stack(alone))


def test_what_cannot_be_held_is_refused_by_name(client):
    with pytest.raises(ValueError, match="DeepseekV3ForCausalLM caches latents.*recall=0"):
        LagKVCache.create(client, made("DeepseekV3"), "latents", recall=2)
    bloom = transformers.BloomForCausalLM(transformers.BloomConfig(vocab_size=128, hidden_size=64, n_layer=2, n_head=4))
    with pytest.raises(ValueError, match="BloomForCausalLM computes its attention by itself"):
        LagKVCache.create(client, bloom, "own-attention", capacity=64)
    with pytest.raises(ValueError, match="say capacity="):
        LagKVCache.create(client, bloom, "no-positions")
    windows = transformers.MistralForCausalLM(transformers.MistralConfig(**GROUPED, sliding_window=24))
    with pytest.raises(ValueError, match="no layer of full attention"):
        LagKVCache.create(client, windows, "windows")
    assert client.sessions() == []
