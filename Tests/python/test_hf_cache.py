"""transformers models on real sessions: what they compute there must be what they compute anywhere.

Tiny random models: quick, and nothing to fetch.
"""

from __future__ import annotations

import signal
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed: .ci/python-env makes an environment with it")
transformers = pytest.importorskip("transformers", reason="transformers is not installed: .ci/python-env installs it")

import lagkv  # noqa: E402
import lagkv.hf.rows  # noqa: E402
from lagkv.eval.baselines import Policy, Pruned  # noqa: E402
from lagkv.hf import LagKVCache, Recall  # noqa: E402
from lagkv.hf import forward as forward_call  # noqa: E402
from lagkv.hf.rows import DeviceRows  # noqa: E402
from conftest import delete  # noqa: E402

# transformers is renaming the argument to `cache`; users have both, and so have these tests.
pytestmark = [pytest.mark.filterwarnings("ignore:`past_key_values` is deprecated"), pytest.mark.usefixtures("one_thread")]

POLICY = Policy(sink=4, lag=16, keep_ratio=0.25)
S = dict(sink=POLICY.sink, lag=POLICY.lag, keep_ratio=POLICY.keep_ratio)


def llama(seed: int = 0, dtype=torch.float32):
    torch.manual_seed(seed)
    config = transformers.LlamaConfig(
        vocab_size=128, hidden_size=64, intermediate_size=96, num_hidden_layers=3, num_attention_heads=4, num_key_value_heads=2,
        max_position_embeddings=8192, initializer_range=0.3, eos_token_id=None, bos_token_id=None, pad_token_id=0,
    )  # fmt: skip
    return transformers.LlamaForCausalLM(config).to(dtype).eval()


def gemma():
    torch.manual_seed(1)
    kinds = ["sliding_attention", "full_attention", "sliding_attention", "full_attention"]
    config = transformers.Gemma3TextConfig(
        vocab_size=128, hidden_size=64, intermediate_size=96, num_hidden_layers=4, num_attention_heads=4, num_key_value_heads=1,
        head_dim=16, sliding_window=24, layer_types=kinds, max_position_embeddings=2048, initializer_range=0.3,
        eos_token_id=None,
    )  # fmt: skip
    return transformers.Gemma3ForCausalLM(config).eval()


@pytest.fixture(scope="module")
def model():
    return llama()


def prompt(tokens: int, seed: int = 0) -> torch.Tensor:
    return torch.randint(1, 128, (1, tokens), generator=torch.Generator().manual_seed(seed))


def answer(model, ids, cache, new: int = 24, **options):
    """The new tokens and their logits."""
    result = model.generate(
        ids, attention_mask=torch.ones_like(ids), past_key_values=cache, max_new_tokens=new, do_sample=False, pad_token_id=0,
        return_dict_in_generate=True, output_logits=True, **options,
    )  # fmt: skip
    return result.sequences[:, ids.shape[1] :], torch.stack(result.logits)


def forward(model, ids, cache):
    return forward_call(model, ids, cache).logits


@pytest.mark.parametrize("make", [llama, lambda: llama(dtype=torch.bfloat16), gemma], ids=["float32", "bfloat16", "gemma3"])
@pytest.mark.parametrize("tokens", [1, 5, 77, 300])
def test_a_session_that_keeps_all_gives_every_logit_bit_for_bit(client, make, tokens):
    model = make()
    ids = prompt(tokens)
    model.set_attn_implementation("sdpa")
    expected = answer(model, ids, transformers.DynamicCache(config=model.config))
    got = answer(model, ids, LagKVCache.create(client, model, "all", keep_ratio=1, sink=4, lag=16))
    assert torch.equal(got[0], expected[0])
    assert torch.equal(got[1], expected[1])


@pytest.mark.parametrize("step", [300, 37, 1])
def test_a_compressed_session_says_what_the_algorithm_in_plain_torch_says(client, model, step):
    ids = prompt(150, seed=2)
    cache, reference = LagKVCache.create(client, model, "some", **S), Pruned(3, "lagkv-torch", POLICY)
    for piece in ids[:, :-1].split(step, dim=1):
        model.set_attn_implementation("lagkv")
        got = forward(model, piece, cache)
        model.set_attn_implementation("sdpa")
        torch.testing.assert_close(got, forward(model, piece, reference), rtol=1e-4, atol=1e-4)
    expected = answer(model, ids, reference, new=60)
    model.set_attn_implementation("lagkv")
    assert torch.equal(answer(model, ids, cache, new=60)[0], expected[0])
    for layer in range(3):
        assert np.array_equal(cache.session.view(layer).positions, reference.layers[layer].positions.numpy())


def test_a_prompt_in_pieces_never_holds_more_than_the_kept_rows_and_two_chunks(client, model):
    ids, held = prompt(1000, seed=18), []
    cache = LagKVCache.create(client, model, "pieces", **S)
    seen = model.register_forward_hook(lambda *_: held.append((cache.session.tokens, len(cache.session.view(0)))))
    said = model.generate(
        ids, past_key_values=cache, max_new_tokens=8, do_sample=False, pad_token_id=0, prefill_chunk_size=POLICY.lag
    )
    seen.remove()
    assert len(held) > 1000 // POLICY.lag
    for tokens, rows in held:
        assert rows <= POLICY.sink + POLICY.chunks(tokens) * POLICY.kept() + 2 * POLICY.lag
    again = LagKVCache.create(client, model, "by-hand", **S)
    for piece in ids[:, :-1].split(POLICY.lag, dim=1):
        forward(model, piece, again)
    assert torch.equal(answer(model, ids, again, new=8)[0], said[:, 1000:])


@pytest.mark.parametrize(
    "options", [dict(temperature=0.8, top_k=20), dict(top_p=0.9, repetition_penalty=1.2)], ids=["top-k", "top-p"]
)
def test_sampling_draws_the_same_tokens(client, model, options):
    ids = prompt(60, seed=19)

    def drawn(cache):
        torch.manual_seed(20)
        return model.generate(ids, past_key_values=cache, max_new_tokens=24, do_sample=True, pad_token_id=0, **options)

    expected = drawn(transformers.DynamicCache(config=model.config))
    assert torch.equal(drawn(LagKVCache.create(client, model, "drawn", keep_ratio=1)), expected)


def test_messages_that_follow_the_first_attend_over_the_past_bit_for_bit(client, model):
    own, cache = transformers.DynamicCache(config=model.config), LagKVCache.create(client, model, "messages", keep_ratio=1)
    for message in prompt(200, seed=21).split((90, 2, 50, 58), dim=1):
        model.set_attn_implementation("sdpa")
        expected = forward(model, message, own)
        model.set_attn_implementation("lagkv")
        assert torch.equal(forward(model, message, cache), expected)


def test_a_batch_of_sessions_answers_as_each_alone(client, model):
    lengths = (9, 70, 41)
    alone = []
    for row, length in enumerate(lengths):
        ids = prompt(length, seed=row)
        alone.append(answer(model, ids, LagKVCache.create(client, model, f"alone{row}", **S))[0][0])
    ids = torch.zeros(3, max(lengths), dtype=torch.long)
    mask = torch.zeros_like(ids)
    for row, length in enumerate(lengths):
        ids[row, -length:], mask[row, -length:] = prompt(length, seed=row), 1
    cache = LagKVCache.create(client, model, ["b0", "b1", "b2"], **S)
    together = model.generate(
        ids, attention_mask=mask, past_key_values=cache, max_new_tokens=24, do_sample=False, pad_token_id=0
    )
    assert torch.equal(together[:, ids.shape[1] :], torch.stack(alone))
    assert [session.tokens for session in cache.sessions] == [length + 23 for length in lengths]


def test_a_sequence_of_a_batch_that_has_ended_takes_no_more_tokens(client):
    model = llama()
    ids = torch.cat((prompt(20, seed=3), prompt(20, seed=4)))
    free = LagKVCache.create(client, model, ["f0", "f1"])
    said = model.generate(ids, past_key_values=free, max_new_tokens=12, do_sample=False, pad_token_id=0)[:, 20:]
    end = int(said[0, 3])
    model.generation_config.eos_token_id, model.generation_config.pad_token_id = end, 0
    cache = LagKVCache.create(client, model, ["e0", "e1"])
    model.generate(ids, past_key_values=cache, max_new_tokens=12, do_sample=False)
    first = cache.sessions[0]
    assert first.ids[-1] == end and first.tokens == 20 + said[0].tolist().index(end) + 1


def test_a_rewound_chat_goes_on_as_if_the_rest_had_never_been_said(client, model):
    ids = prompt(120, seed=5)
    never = LagKVCache.create(client, model, "never", **S)
    forward(model, ids[:, :-1], never)
    never = answer(model, ids, never)
    cache = LagKVCache.create(client, model, "rewound", **S)
    answer(model, ids, cache, new=50)
    cache.crop(120 - 1 - cache.get_seq_length())
    again = answer(model, ids, cache)
    assert torch.equal(again[0], never[0])
    with pytest.raises(ValueError, match="negative"):
        cache.crop(5)


def test_a_fork_and_its_origin_go_on_apart(client, model):
    ids = prompt(100, seed=6)
    cache = LagKVCache.create(client, model, "one", **S)
    forward(model, ids, cache)
    fork = cache.fork("two")
    left, right = torch.cat((ids, prompt(5, seed=7)), 1), torch.cat((ids, prompt(5, seed=8)), 1)
    apart = answer(model, left, cache)[0], answer(model, right, fork)[0]
    fresh = LagKVCache.create(client, model, "three", **S)
    forward(model, ids, fresh)
    assert torch.equal(answer(model, right, fresh)[0], apart[1])
    assert not torch.equal(*apart)


def test_what_a_prompt_shares_with_a_session_is_not_computed_again(client, model):
    ids = prompt(90, seed=9)
    cache = LagKVCache.create(client, model, "prefix", **S)
    forward(model, ids, cache)
    edited = ids.clone()
    edited[0, 60] = (edited[0, 60] + 1) % 128
    assert cache.reuse(edited) == 60
    assert cache.reuse(ids[:, :40]) == 39  # one token is left to compute
    assert cache.session.tokens == 39


def test_a_session_resumes_after_both_ends_were_killed(make_daemon, model):
    daemon = make_daemon()
    ids, question = prompt(150, seed=10), prompt(7, seed=11)
    with daemon.connect() as client:
        cache = LagKVCache.create(client, model, "unbroken", recall=1, **S)
        forward(model, ids, cache)
        expected = answer(model, torch.cat((ids, question), 1), cache)[0]
    with daemon.connect() as client:
        cache = LagKVCache.create(client, model, "broken", recall=1, **S)
        forward(model, ids, cache)
        cache.sync()
        daemon.stop(signal.SIGKILL)
    daemon.start()
    with daemon.connect() as client:
        cache = LagKVCache.open(client, model, "broken", recall=1)
        assert cache.get_seq_length() == 150
        assert torch.equal(answer(model, torch.cat((ids, question), 1), cache)[0], expected)


def test_what_a_killed_daemon_had_not_written_is_computed_again(make_daemon, model):
    """From the same calls come the same tokens, wherever in them the daemon was killed."""
    daemon = make_daemon()
    ids = prompt(157, seed=10)
    with daemon.connect() as client:
        cache = LagKVCache.create(client, model, "unbroken", **S)
        for piece in ids.split(10, dim=1):
            expected = forward(model, piece, cache)
    with daemon.connect() as client:
        cache = LagKVCache.create(client, model, "broken", **S)
        for piece in ids[:, :150].split(10, dim=1):
            forward(model, piece, cache)
        cache.session.sync()
        daemon.stop(signal.SIGKILL)
        with pytest.raises(lagkv.ConnectionLost):
            for token in range(2 * POLICY.lag):
                forward(model, prompt(1, seed=token), cache)
    daemon.start()
    with daemon.connect() as client:
        cache = LagKVCache.open(client, model, "broken")
        left = cache.get_seq_length() // 10 * 10
        assert 0 < left < 150
        cache.truncate(left)
        for piece in ids[:, left:].split(10, dim=1):
            again = forward(model, piece, cache)
        assert torch.equal(again, expected)


def test_a_turn_recalls_whole_chunks_and_the_next_lets_them_go(client, model):
    cache = LagKVCache.create(client, model, "turns", recall=Recall(chunks=2, queries=3), **S)
    forward(model, prompt(200, seed=12), cache)
    evicted = POLICY.lag - POLICY.kept()
    for turn in range(3):
        ids = torch.cat((torch.from_numpy(cache.session.ids.astype(np.int64))[None], prompt(9, seed=turn)), 1)
        answer(model, ids, cache, new=5)
        for layer in range(3):
            view, (keys, values) = cache.session.view(layer), cache.session.full(layer)
            assert len(view) == POLICY.resident(cache.session.tokens) + 2 * evicted
            rows = view.positions[:, :, None].astype(np.int64)
            assert np.array_equal(view.keys, np.take_along_axis(keys, rows, 1))
            assert np.array_equal(view.values, np.take_along_axis(values, rows, 1))
    cache.release()
    assert len(cache.session.view(0)) == POLICY.resident(cache.session.tokens)


def test_recalling_every_chunk_gives_the_full_cache_back(client, model):
    """Attention over all tokens in another order: equal but for rounding."""
    ids, question = prompt(200, seed=13), prompt(9, seed=14)
    full = transformers.DynamicCache(config=model.config)
    model.set_attn_implementation("sdpa")
    forward(model, ids, full)
    expected = forward(model, question, full)
    cache = LagKVCache.create(client, model, "everything", recall=1000, **S)
    forward(model, ids, cache)
    torch.testing.assert_close(forward(model, question, cache), expected, rtol=1e-3, atol=1e-3)


def held_by(cache) -> list[np.ndarray]:
    """The positions of every layer's view."""
    return [cache.session.view(layer).positions.copy() for layer in range(3)]


def test_a_call_of_few_tokens_begins_a_turn_only_when_it_is_told_to(client, model):
    cache = LagKVCache.create(client, model, "short", recall=1, **S)
    forward(model, prompt(200, seed=22), cache)
    resident, evicted = POLICY.resident, POLICY.lag - POLICY.kept()
    cache.release()
    forward(model, prompt(2, seed=23), cache)
    assert len(cache.session.view(0)) == resident(202)
    cache.begin_turn()
    forward(model, prompt(2, seed=24), cache)
    assert len(cache.session.view(0)) == resident(204) + evicted


def test_recall_amid_an_answer_ranks_by_the_newest_queries(client, model):
    """On demand, and by itself where `refresh` says so: both choose what a turn of those tokens would have chosen."""
    ids, said = prompt(200, seed=25), prompt(12, seed=26)

    def after(name, recall):
        cache = LagKVCache.create(client, model, name, recall=recall, **S)
        forward(model, ids, cache)
        for token in said.split(1, dim=1):
            forward(model, token, cache)
        return cache

    held = after("once", Recall(chunks=1, queries=3))
    before = held_by(held)
    held.recall_now()
    assert any(not np.array_equal(a, b) for a, b in zip(before, held_by(held), strict=True))
    refreshed = after("refreshed", Recall(chunks=1, queries=3, refresh=len(said[0])))
    assert all(len(np.unique(a)) > POLICY.resident(212) for a in held_by(refreshed))
    with pytest.raises(ValueError, match="recalls nothing"):
        after("never", 0).recall_now()
    held.truncate(100)
    with pytest.raises(ValueError, match="no query"):
        held.recall_now()


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_a_copy_on_a_device_computes_the_same(client, device, monkeypatch):
    """The copy that CUDA needs; on the CPU the same code is told to make one."""
    monkeypatch.setattr(lagkv.hf.rows, "_STAGED", 3 * 2 * 16 * 4 * 37)  # its tokens stream down by 37
    if device == "cuda" and not torch.cuda.is_available():
        pytest.skip("no CUDA device here")
    model = llama().to(device)
    ids = prompt(150, seed=15).to(device)

    def run(name, copied):
        cache = LagKVCache.create(client, model, name, recall=1, **S)
        if copied:
            for sequence in cache._sequences:
                sequence._rows = DeviceRows(sequence.session, torch.device(device))
        said = [answer(model, ids, cache, new=40)[0]]
        cache.truncate(100)
        said.append(answer(model, ids[:, :120], cache, new=20)[0])
        return torch.cat(said, 1), [cache.session.view(layer).positions for layer in range(3)]

    copied, shared = run("copied", True), run("shared", device == "cuda")
    assert torch.equal(copied[0], shared[0])
    assert all(np.array_equal(a, b) for a, b in zip(copied[1], shared[1], strict=True))


def test_layers_with_windows_stay_with_transformers_and_come_back_with_the_ids(client):
    model = gemma()
    ids = prompt(100, seed=16)
    cache = LagKVCache.create(client, model, "windows", **S)
    assert cache.session.description.layers == 2
    forward(model, ids[:, :99], cache)
    said = answer(model, ids, cache)[0]
    cache.close()
    again = LagKVCache.open(client, model, "windows")
    assert again.get_seq_length() == 100 + 23
    again.truncate(99)
    assert torch.equal(answer(model, ids, again)[0], said)


def test_rebuilding_other_layers_leaves_the_session_alone(client, monkeypatch):
    """A process that dies while it computes windows again has lost nothing of the session, and leaves none behind."""
    model = gemma()
    ids = prompt(100, seed=16)
    with LagKVCache.create(client, model, "rebuilt", **S) as cache:
        forward(model, ids, cache)
        whole = [part.copy() for part in cache.session.full(0)]

    def fails(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("lagkv.hf.attention.forward", fails)
        with pytest.raises(KeyboardInterrupt):
            LagKVCache.open(client, model, "rebuilt")
    assert [row.name for row in client.sessions()] == ["rebuilt"]
    with LagKVCache.open(client, model, "rebuilt") as cache:
        assert all(np.array_equal(a, b) for a, b in zip(cache.session.full(0), whole, strict=True))
        assert cache.layers[0].get_seq_length() == cache.get_seq_length() == 100
    with LagKVCache.create(client, model, "embedded", **S) as cache, torch.inference_mode():
        model(inputs_embeds=torch.zeros(1, 5, 64), past_key_values=cache)
        with pytest.raises(ValueError, match="embeddings"):
            cache.truncate(3)


def test_tokens_that_came_as_embeddings_are_no_prompts_prefix(client, model):
    cache = LagKVCache.create(client, model, "embeddings", **S)
    with torch.inference_mode():
        model(inputs_embeds=torch.zeros(1, 5, 64), past_key_values=cache)
    assert cache.session.tokens == 5
    assert cache.reuse(torch.zeros(1, 9, dtype=torch.long)) == 0


@pytest.mark.parametrize("calls", [(200, 9, 1, 1), (9, 1, 40)], ids=["sealed", "short"])
def test_attention_reads_the_shared_memory_itself(client, model, monkeypatch, calls):
    """In every call that has a past: not a copy of it, for any layer, recalled rows included."""
    cache = LagKVCache.create(client, model, "itself", recall=1, **S)
    slabs = [array for layer in range(3) for array in cache.session.slab(layer)]
    inside, attend = [], torch.nn.functional.scaled_dot_product_attention

    def seen(query, key, value, **options):
        for part in (key, value):
            inside.append(any(a.ctypes.data <= part.data_ptr() < a.ctypes.data + a.strides[0] * a.shape[0] for a in slabs))
        return attend(query, key, value, **options)

    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", seen)
    for call, tokens in enumerate(calls):
        inside.clear()
        forward(model, prompt(tokens, seed=call), cache)
        assert inside == [True] * 3 * 2


@pytest.mark.parametrize("keep_ratio, piece", [(1, 1), (0.125, 1), (0.125, 32)], ids=["whole", "sealing", "in pieces"])
def test_the_engines_own_memory_does_not_grow_with_the_session(client, keep_ratio, piece):
    """What the process has beside the shared memory."""
    model = llama()
    cache = LagKVCache.create(client, model, "long", keep_ratio=keep_ratio, sink=4, lag=16, capacity=8192)

    def own() -> int:
        status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
        return int(status["RssAnon"].split()[0]) * 1024

    def more(calls: int) -> int:
        for call in range(calls):
            forward(model, prompt(piece, seed=call), cache)
        return own()

    before = more(64)
    after = more(900 if piece == 1 else 150)
    held = cache.session.tokens * 3 * 2 * 32 * 4
    assert after - before < held / 2, f"{after - before:,} B more for a session of {held:,} B"


def test_a_failed_call_leaves_the_session_as_it_was(client, model):
    cache = LagKVCache.create(client, model, "failed", **S)
    ids = prompt(50, seed=17)
    forward(model, ids[:, :40], cache)
    broken = model.model.layers[1].mlp.register_forward_hook(lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        forward(model, ids[:, 40:], cache)
    broken.remove()
    assert cache.session.tokens == cache.get_seq_length() == 40
    fresh = LagKVCache.create(client, model, "fresh", **S)
    forward(model, ids[:, :40], fresh)
    assert torch.equal(forward(model, ids[:, 40:], cache), forward(model, ids[:, 40:], fresh))


@pytest.mark.parametrize("copied", [False, True], ids=["shared", "copied"])
def test_a_call_that_the_daemon_refuses_half_way_is_taken_back_as_soon_as_it_can_be(make_daemon, model, monkeypatch, copied):
    monkeypatch.setattr(lagkv.hf.rows, "_STAGED", 3 * 2 * 16 * 4 * 200)
    ids = prompt(2000, seed=22).expand(2, -1)
    daemon = make_daemon("--disk-budget", "5MiB", "--staging", "1MiB")
    with daemon.connect() as client:
        ballast = client.create("ballast", layers=1, kv_heads=1, key_dim=64, value_dim=64, dtype="float32", capacity=8192)
        noise = np.random.default_rng(0).integers(0, 1 << 32, (1, 1, 8192, 64), dtype=np.uint32)
        ballast.append(noise, noise)
        ballast.close()
        cache = LagKVCache.create(client, model, ["half", "way"], **S)
        if copied:
            for sequence in cache._sequences:
                sequence._rows = DeviceRows(sequence.session, torch.device("cpu"))
        forward(model, ids[:, :100], cache)
        with pytest.raises(lagkv.BudgetExceeded):
            forward(model, ids[:, 100:], cache)
        assert any(session.tokens > 100 for session in cache.sessions) and cache.get_seq_length() == 100
        with pytest.raises(lagkv.BudgetExceeded):
            forward(model, ids[:, :9], cache)
        delete(client, "ballast")
        said = forward(model, ids[:, :9], cache)
        assert [session.tokens for session in cache.sessions] == [109, 109]
        fresh = LagKVCache.create(client, model, ["fresh", "too"], **S)
        forward(model, ids[:, :100], fresh)
        assert torch.equal(said, forward(model, ids[:, :9], fresh))


def test_sessions_for_a_batch_are_made_all_or_none(client, model):
    LagKVCache.create(client, model, "there").close()
    with pytest.raises(lagkv.AlreadyExists):
        LagKVCache.create(client, model, ["new", "there"])
    assert [row.name for row in client.sessions()] == ["there"]


def test_a_model_whose_weights_differ_anywhere_is_another_model(client):
    model = llama()
    LagKVCache.create(client, model, "weights").close()
    with torch.no_grad():
        model.model.layers[1].mlp.down_proj.weight[0, 0] += 1
    with pytest.raises(lagkv.Mismatch) as mismatch:
        LagKVCache.open(client, model, "weights")
    seen, expected = mismatch.value.seen, mismatch.value.expected
    assert seen != expected and "llama/3 layers/float32" in seen and "llama/3 layers/float32" in expected


def test_errors_say_what_was_wrong(client, model):
    cache = LagKVCache.create(client, model, "errors", capacity=64, **S)
    ids = prompt(10)
    with pytest.raises(ValueError, match="beams"):
        model.generate(ids, past_key_values=cache, max_new_tokens=4, num_beams=2, pad_token_id=0)
    with pytest.raises(ValueError, match="capacity is 64"):
        forward(model, prompt(65), cache)
    with pytest.raises(ValueError, match="padded on the right"):
        model(ids, attention_mask=torch.tensor([[1] * 9 + [0]]), past_key_values=cache)
    with pytest.raises(ValueError, match="other than padding"):
        model(ids, attention_mask=torch.ones(1, 1, 10, 10), past_key_values=cache)
    with pytest.raises(ValueError, match="attends with s_aux"):
        model(ids, s_aux=torch.zeros(4), past_key_values=cache)
    with pytest.raises(RuntimeError, match="another model"):
        other = llama(seed=1)
        other.model(ids, past_key_values=transformers.DynamicCache())
        other.model.layers[0].self_attn(
            torch.zeros(1, 1, 64),
            position_embeddings=(torch.ones(1, 1, 16), torch.zeros(1, 1, 16)),
            attention_mask=None,
            past_key_values=cache,
        )
    with pytest.raises(lagkv.LagKVError) as mismatch:
        LagKVCache.open(client, llama(seed=1), "errors")
    assert "llama" in str(mismatch.value)
    with pytest.raises(ValueError, match="chunks must be"):
        Recall(chunks=-1)
