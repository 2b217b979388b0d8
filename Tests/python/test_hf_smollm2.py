"""A real model on sessions. How the same is measured over many long prompts is in lagkv.eval.speed."""

from __future__ import annotations

import pytest
import smollm2
import torch
from lagkv.eval import speed

pytestmark = pytest.mark.filterwarnings("ignore:`past_key_values` is deprecated")


@pytest.fixture(scope="module")
def parts():
    tokenizer, model = smollm2.load()
    # Two wait for each other where other programs run.
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield model, tokenizer
    torch.set_num_threads(threads)


def test_a_session_that_keeps_all_answers_as_transformers_own_cache_bit_for_bit(client, parts):
    found = speed.parity(client, *parts, prompts=2, longest=600, text=None, steps=8)
    assert found["same_tokens"] == found["same_bits"] == 2


def test_a_session_that_evicts_answers_as_the_algorithm_in_plain_torch(client, parts):
    found = speed.reference(client, *parts, prompts=2, longest=600, text=None, steps=8)
    assert [row["keep_ratio"] for row in found] == [0.5, 0.25, 0.125]
    for row in found:
        assert row["same_tokens"] == 2
        # Scores nearer to each other than their rounding may fall either way.
        assert row["other_rows"] <= 1e-3 * row["rows"], row
