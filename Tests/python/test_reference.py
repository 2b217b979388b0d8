"""The oracle itself, against numbers worked out by hand and against the golden vectors where they are at hand."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
import reference


def test_eight_bit_floats_decode_to_their_tabled_values() -> None:
    codes = np.array([0x00, 0x01, 0x07, 0x08, 0x38, 0x7E, 0x7F, 0xB8], "u1")
    e4m3 = reference.decoded(codes, "float8_e4m3")
    assert e4m3[:6].tolist() == [0, 2.0**-9, 7 * 2.0**-9, 2.0**-6, 1, 448] and np.isnan(e4m3[6]) and e4m3[7] == -1
    e5m2 = reference.decoded(np.array([0x01, 0x3C, 0x7B, 0x7C, 0xBC], "u1"), "float8_e5m2")
    assert e5m2.tolist() == [2.0**-16, 1, 57344, np.inf, -1]


def test_scores_of_a_chunk_worked_out_by_hand() -> None:
    """Two channels, bounds 0 to 2: (0, 2) → (0, 1), σ = 1/√2; (1, 1) → (.5, .5), σ = 0; values constant, so σ = 0."""
    k = np.array([[0, 2], [1, 1]], np.float32)
    reference_k = np.array([[0, 2], [2, 0]], np.float32)
    v = np.ones((2, 2), np.float32)
    e = np.exp(1 / np.sqrt(2))
    expected = [e / (1 + e) + 0.5, 1 / (1 + e) + 0.5]
    assert reference.scores(k, v, reference_k, v, 1.0) == pytest.approx(expected, rel=1e-12)


def test_a_token_that_is_not_finite_is_kept_first_and_no_softmax_sees_it() -> None:
    k = np.array([[0, 2], [1, 1], [np.nan, 0]], np.float32)
    with_it = reference.scores(k, k, k[:2], k[:2], 1.0)
    assert with_it[2] == np.inf
    assert with_it[:2] == pytest.approx(reference.scores(k[:2], k[:2], k[:2], k[:2], 1.0))


def test_the_oracle_notices_a_wrong_token_a_wrong_order_and_a_wrong_bit() -> None:
    oracle = reference.Oracle(1, 2, 8, 8, "bfloat16", 3, 16, 0.25)
    random = np.random.default_rng(1)
    k, v = (reference.encoded(random.standard_normal((1, 2, 60, 8)).astype(np.float32), "bfloat16") for _ in range(2))
    oracle.append(k, v, None)
    assert oracle.sealed == 2
    chosen = [np.sort(np.argsort(-oracle.scores(0, chunk), -1)[:, :4]) + oracle.chunk(chunk).start for chunk in range(2)]
    ends = [np.tile(np.arange(first, end), (2, 1)) for first, end in ((0, 3), (35, 60))]
    right = np.concatenate([ends[0], *chosen, ends[1]], 1)

    def check(positions: np.ndarray, flip: int = 0) -> None:
        rows = [np.stack([a[0, head, positions[head]] for head in range(2)]) for a in (k, v)]
        rows[1][1, 5, 7] ^= flip
        oracle._verified = {}
        oracle.check_view(0, *rows, positions)

    check(right)
    with pytest.raises(AssertionError):
        check(right, flip=1)
    worst = oracle.scores(0, 1)[1].argmin() + oracle.chunk(1).start
    swapped, unordered, shorter = right.copy(), right.copy(), right[:, :-1]
    swapped[1, 7:11] = np.sort(np.append(right[1, 8:11], worst))
    unordered[0, 3:5] = right[0, 4:2:-1]
    for wrong in (swapped, unordered, shorter):
        with pytest.raises(AssertionError):
            check(wrong)


def _golden() -> Path | None:
    places = [os.environ.get("LAGKV_GOLDEN"), Path(__file__).parents[1] / "LagKVTests", Path(__file__).parents[2] / ".cache"]
    for place in filter(None, places):
        found = sorted(Path(place).rglob("smollm2_kv.safetensors"))
        if found:
            return found[0]
    return None


def _tensors(path: Path) -> dict[str, np.ndarray]:
    """All tensors of a safetensors file; bfloat16 as its bits."""
    data = path.read_bytes()
    length = int.from_bytes(data[:8], "little")
    types = {"BF16": "<u2", "F32": "<f4", "I32": "<i4", "I64": "<i8", "I16": "<i2", "U16": "<u2"}
    tensors = {}
    for name, entry in json.loads(data[8 : 8 + length]).items():
        if name != "__metadata__":
            first, last = (8 + length + offset for offset in entry["data_offsets"])
            tensors[name] = np.frombuffer(data[first:last], types[entry["dtype"]]).reshape(entry["shape"])
    return tensors


def test_scores_and_kept_tokens_equal_the_golden_vectors() -> None:
    path = _golden()
    if path is None:
        pytest.skip("no smollm2_kv.safetensors under Tests/LagKVTests; LAGKV_GOLDEN names another folder")
    golden, facts = _tensors(path), json.loads(path.with_suffix(".json").read_text())
    for number, policy in enumerate(facts["policies"]):
        for layer in facts["layers"]:
            oracle = reference.Oracle(
                1, facts["kv_heads"], facts["head_dim"], facts["head_dim"], "bfloat16",
                *(policy[name] for name in ("sink", "lag", "keep_ratio", "value_weight")),
            )  # fmt: skip
            oracle.append(golden[f"layer{layer}.k"][None], golden[f"layer{layer}.v"][None], None)
            assert oracle.sealed == policy["chunks_sealed"] and oracle.kept(0) == policy["kept_per_chunk"]
            name = f"policy{number}.layer{layer}"
            for chunk in range(oracle.sealed):
                scores = oracle.scores(0, chunk)
                np.testing.assert_allclose(scores, golden[f"{name}.score"][:, chunk], rtol=1e-6)
                best = np.argsort(-scores, axis=-1, kind="stable")[:, : oracle.kept(0)]
                assert (np.sort(best, -1) + oracle.chunk(chunk).start == golden[f"{name}.kept"][:, chunk]).all()
