"""The evaluation's own arithmetic: its metrics, its files, its samples. What it measures is in the README."""

from __future__ import annotations

import json

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed: .ci/python-env makes an environment with it")
transformers = pytest.importorskip("transformers", reason="transformers is not installed: .ci/python-env installs it")

from lagkv.eval import baselines, longbench, methods, metrics, results, rules, tasks  # noqa: E402
from lagkv.eval.methods import Method  # noqa: E402
from lagkv.hf import forward  # noqa: E402
from lagkv.hf.recall import rank  # noqa: E402


class Words:
    """A tokenizer whose tokens are words: enough to fit a sample to a length."""

    def __call__(self, text, add_special_tokens=True):
        return type("Encoding", (), {"input_ids": text.split()})


@pytest.mark.parametrize(
    "said, right, expected",
    [("The Eiffel Tower!", "eiffel tower", 1.0), ("in Paris", "Paris, France", 0.5), ("no", "yes", 0.0)],
)
def test_f1_compares_words_without_articles_and_punctuation(said, right, expected):
    assert metrics.f1(said, right, []) == expected


def test_rouge_l_is_the_longest_common_subsequence():
    assert metrics.rouge_l("one cat sat on the mat", "one cat lay on the mat", []) == pytest.approx(5 / 6)
    assert metrics.rouge_l("", "words", []) == 0


def test_accuracy_is_shared_among_the_classes_that_were_named():
    classes = ["Date", "Country", "Equivalent term"]
    assert metrics.accuracy("It is Date", "Date", classes) == 1
    assert metrics.accuracy("Date or Country", "Date", classes) == 0.5
    assert metrics.accuracy("City", "Date", classes) == 0
    assert metrics.accuracy("Other date", "Other date", ["date", "Other date"]) == 1


def test_numbers_are_found_in_what_was_said():
    assert metrics.count("There are 3, or 4.", "3", []) == 0.5
    assert metrics.retrieval("Paragraph 12", "Paragraph 12", []) == 1
    assert metrics.retrieval("Paragraph 1", "Paragraph 12", []) == 0
    assert metrics.retrieval("段落7", "段落7", []) == 1


def test_chinese_is_compared_by_the_words_of_a_dictionary():
    pytest.importorskip("jieba", reason="jieba is not installed: .ci/python-env installs it")
    # 我 爱 北京 天安门: "I love Beijing('s) Tiananmen".
    assert metrics.f1_zh("我爱「北京」！", "我爱北京天安门。", []) == pytest.approx(6 / 7)
    assert metrics.rouge_l_zh("我爱北京", "我爱北京天安门", []) == pytest.approx(6 / 7)
    assert metrics.f1_zh("GPT", "gpt", []) == 1 and metrics.f1_zh("。", "北京", []) == 0
    sample = {"input": "", "context": "", "answers": ["体育"], "dataset": "lsht", "all_classes": ["体育", "财经"]}
    assert longbench.score(sample, "\n体育\n财经") == 1


def test_longbench_reads_its_own_format_and_names_a_wrong_line(tmp_path):
    path = tmp_path / "hotpotqa.jsonl"
    good = {
        "input": "Who?",
        "context": "Ada wrote it.",
        "answers": ["Ada", "Ada Lovelace"],
        "dataset": "hotpotqa",
        "all_classes": None,
    }
    path.write_text(json.dumps(good) + "\n")
    (sample,) = longbench.read(path)
    assert longbench.score(sample, " Ada\n") == 1
    path.write_text(json.dumps(good) + "\n" + json.dumps(good | {"dataset": "sorting"}) + "\n")
    with pytest.raises(ValueError, match=":2: data set 'sorting'"):
        longbench.read(path)
    path.write_text('{"input": 1}\n')
    with pytest.raises(ValueError, match=":1: .* no answers, context, dataset"):
        longbench.read(path)


@pytest.mark.parametrize("task", tasks.TASKS)
def test_a_sample_fits_its_length_and_is_the_same_again(task):
    sample = tasks.TASKS[task](Words(), 400, 7, 16)
    assert sample == tasks.TASKS[task](Words(), 400, 7, 16)
    assert sample != tasks.TASKS[task](Words(), 400, 8, 16)
    assert 300 < len((sample.context + sample.question).split()) <= 400
    assert sample.answer in sample.context and sample.answer not in sample.question


def test_results_go_on_where_they_stopped(tmp_path):
    path = tmp_path / "results.jsonl"
    cell = {"model": "m", "task": "passkey", "tokens": 10, "method": "lagkv", "keep_ratio": 0.5}
    first = results.Results(path)
    first.add(cell | {"seed": 0, "score": 1.0, "share": 0.5})
    with path.open("a") as file:
        file.write('{"model": "m", "tas')  # killed while writing
    again = results.Results(path)
    assert again.has(cell | {"seed": 0}) and not again.has(cell | {"seed": 1})
    again.add(cell | {"seed": 1, "score": 0.0, "share": 0.5})
    whole = results.Results(path)
    assert [(row["n"], row["score"]) for row in whole.cells()] == [(2, 0.5)]
    assert "| 0.5 | 2 |" in results.markdown(whole.cells())


def test_a_plot_has_a_panel_a_task_and_curves_over_ratios_and_over_recalled_chunks(tmp_path, monkeypatch):
    pyplot = pytest.importorskip("matplotlib.pyplot", reason="matplotlib is not installed: .ci/python-env installs it")
    cell = {"task": "passkey", "question": "after", "digits": 16, "tokens": 2048, "score": 1.0, "n": 40}
    rows = [
        cell | {"method": method, "keep_ratio": ratio, "share": ratio + recalled}
        for method, recalled in (("lagkv", 0.0), ("lagkv+1", 0.1), ("lagkv+2", 0.2))
        for ratio in (0.125, 0.25)
    ]
    rows.append({"task": "nll", "tokens": 512, "method": "full", "keep_ratio": 1.0, "share": 1.0, "score": 2.5, "n": 12})
    # Too few samples to stand beside the others.
    rows.append(cell | {"method": "h2o", "keep_ratio": 0.25, "share": 0.25, "n": 19})
    drawn = []
    monkeypatch.setattr(pyplot, "close", drawn.append)
    results.plot(rows, tmp_path / "plot.png")
    found = {axis.get_title(): [line.get_label() for line in axis.get_lines()] for axis in drawn[0].axes}
    assert found == {
        "nll, 512 tokens": ["full"],
        "passkey, 16 digits, question after, 2,048 tokens": ["lagkv", "lagkv+M, r=0.125", "lagkv+M, r=0.25"],
    }
    assert (tmp_path / "plot.png").stat().st_size > 1000


def test_methods_are_named_with_what_they_recall():
    assert str(Method.parse("lagkv+2", 0.25, 16, 128)) == "lagkv+2"
    assert Method.parse("full", 0.25, 16, 128).keep_ratio == 1
    for name in ("lagkv+2/max", "lagkv:10", "lagkv:0.5+2", "lagkv@0", "lagkv:2@0,29+3/max"):
        assert str(Method.parse(name, 0.25, 16, 128)) == name
    policy = Method.parse("lagkv:10@3,4+2", 0.25, 16, 128).policy
    assert (policy.value_weight, policy.uncompressed_layers) == (10, (3, 4))
    for wrong, what in (
        ("best", "no method 'best'"), ("lagkv+two", "expected NAME"), ("lagkv@first", "expected NAME"), ("h2o+2/max", "are lagkv's"),
        ("h2o@1", "are lagkv's"), ("lagkv+2/best", "no rule 'best'"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=what):
            Method.parse(wrong, 0.25, 16, 128)


@pytest.mark.parametrize("name", [*baselines.CHUNKED, *baselines.WHOLE])
@pytest.mark.parametrize("tokens", [100, 400, 437])
def test_every_method_keeps_as_many_rows_as_the_hot_view(name, tokens):
    policy = baselines.Policy(sink=8, lag=32, keep_ratio=0.25)
    torch.manual_seed(tokens)
    cache = baselines.Pruned(1, name, policy)
    keys, values = torch.randn(2, 1, 2, tokens, 16)
    cache.layers[0].update(keys, values)
    cache.settle([torch.randn(4, tokens, 16)], 0.25)
    layer = cache.layers[0]
    assert layer.keys.shape[2] == policy.resident(tokens) and layer.get_seq_length() == tokens
    assert (layer.positions.diff(dim=1) > 0).all()
    assert torch.equal(layer.keys[0], keys[0].gather(1, layer.positions[:, :, None].expand(-1, -1, 16)))


def llama():
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=128, hidden_size=64, intermediate_size=96, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
        max_position_embeddings=2048, initializer_range=0.3, eos_token_id=None, bos_token_id=None, pad_token_id=0,
    )  # fmt: skip
    return transformers.LlamaForCausalLM(config).eval()


def ids(tokens: int, seed: int = 0) -> torch.Tensor:
    return torch.randint(1, 128, (1, tokens), generator=torch.Generator().manual_seed(seed))


def method(name: str, keep_ratio: float = 0.25) -> Method:
    return Method.parse(name, keep_ratio, sink=4, lag=16)


def test_a_prompt_computed_from_the_beginning_of_another_is_the_same():
    model = llama()
    long = ids(90)
    whole = methods.compute(model, long)
    pieces = methods.compute(model, long, before=methods.compute(model, torch.cat((long[:, :50], ids(30, seed=1)), 1)))
    assert torch.equal(whole.ids, pieces.ids)
    torch.testing.assert_close(whole.logits, pieces.logits)
    for layer in range(2):
        torch.testing.assert_close(whole.queries[layer], pieces.queries[layer])
        torch.testing.assert_close(whole.past.layers[layer].keys, pieces.past.layers[layer].keys)


def decoded(model, cache, logits: torch.Tensor, tokens: int) -> list[int]:
    """Greedy tokens, one by one."""
    said = [int(logits.argmax())]
    while len(said) < tokens:
        said.append(int(forward(model, torch.tensor([said[-1:]]), cache).logits[0, -1].argmax()))
    return said


@pytest.mark.parametrize(
    "name", ["full", "lagkv", "lagkv+2", "lagkv+2/max", "lagkv+1/refresh16", "lagkv-torch", "h2o", "snapkv+1"]
)
@pytest.mark.parametrize("question", [0, 12])
def test_an_answer_is_right_as_far_as_greedy_decoding_says_it(client, name, question):
    # 40 tokens of answer seal two chunks or three, of 16 tokens each.
    model, of = llama(), method(name)
    prompt = methods.compute(model, ids(130))
    with methods.Sessions(client, model, prompt, 130 - question) as sessions:
        with methods.kept(model, sessions, prompt, of) as cache:
            said = torch.tensor(decoded(model, cache, prompt.logits, 40))
        for wrong_at in (40, 0, 1, 17, 39):
            right = said.clone()
            right[wrong_at:] = (said[wrong_at:] + 1) % 128
            with methods.kept(model, sessions, prompt, of) as cache:
                found, share = methods.answer(model, cache, prompt.logits, right, of)
            assert found == wrong_at
            assert share == 1 if name == "full" else 0 < share < 1
    assert not client.sessions()


def test_what_is_appended_to_a_shared_session_is_taken_away_again(client):
    model = llama()
    prompt = methods.compute(model, ids(120))
    with methods.Sessions(client, model, prompt, 100) as sessions:
        for name in ("lagkv", "lagkv+1", "lagkv"):
            with methods.kept(model, sessions, prompt, method(name)) as cache:
                assert cache.get_seq_length() == 120
                # 5 sealed chunks of 16 leave 4 of each; a recalled one is whole.
                assert cache.session.view(0).positions.shape[1] == 120 - 6 * 12 + method(name).recall * 12
        assert [row.tokens for row in client.sessions()] == [100]


def test_rules_choose_as_many_chunks_for_every_head_in_order():
    generator = torch.Generator().manual_seed(3)
    queries, lo = torch.randn(4, 6, 8, generator=generator), torch.randn(9, 2, 8, generator=generator)
    # Chunks of two equal keys after a sink of one, for the rule that knows them: lo is all of their box.
    keys = torch.cat((torch.zeros(2, 1, 8), lo.repeat_interleave(2, dim=0).transpose(0, 1)), dim=1)
    for rows in (5, 0):
        kept = torch.randn(2, 9, rows, 8, generator=generator)
        for name, rule in rules.RULES.items():
            recall = rule.recall(3, 1, [keys], baselines.Policy(1, 2))
            chosen = recall.rule(queries, lo, lo if rule.of_prompt else lo + 1, kept, 0.35, recall.chunks, recall.kept_weight)
            assert chosen.shape == (2, 3) and (chosen.diff(dim=1) > 0).all(), name
        assert torch.equal(*rules.by_layer(queries, lo, lo + 1, kept, 0.35, 3, 0))


def test_rules_differ_in_what_counts():
    # Chunk 0 is what one query wants above all, chunk 1 what all want somewhat; chunk 2 nobody.
    lo = torch.tensor([[[9.0, 0.0]], [[0.0, 2.0]], [[0.0, -9.0]]])
    queries = torch.tensor([[[1.0, 1.0]] + [[0.0, 1.0]] * 5])
    # Of chunk 2 a key was kept that no box tells of; of the others what nobody asks for.
    kept = torch.tensor([[[[0.0, 0.0]], [[0.0, 0.0]], [[0.0, 9.0]]]])
    for rule, chunk in ((rules.by_maximum, 0), (rank, 1), (rules.by_bound, 1), (rules.by_kept, 2)):
        assert rule(queries, lo, lo, kept, 1.0, 1, 0.0).tolist() == [[chunk]], rule
    assert rank(queries, lo, lo, kept, 1.0, 1, 9.0).tolist() == [[2]], "the kept keys' weight"


def test_a_chunk_is_worth_what_its_halves_promise():
    # Two chunks of four keys after a sink of one, one head. The corner of the first's box is where none of its keys is, nor of
    # its halves; the second has what the query wants, somewhat less of it.
    first, second = [[9.0, 0], [8, 0], [0, 9], [0, 8]], [[6.0, 6], [5, 5], [0, 0], [0, 0]]
    keys = torch.tensor([[[50.0, 50.0]] + first + second])
    chunks = torch.tensor([[first], [second]])
    lo, hi = chunks.amin(dim=2), chunks.amax(dim=2)
    query, kept = torch.ones(1, 1, 2), torch.zeros(1, 2, 0, 2)
    assert rank(query, lo, hi, kept, 1.0, 1).tolist() == [[0]]
    assert rules.Halves([torch.rand(1, 9, 2), keys], baselines.Policy(1, 4))(query, lo, hi, kept, 1.0, 1, 0.0).tolist() == [[1]]


def test_every_third_chunk_is_chosen_by_its_kept_keys():
    # The boxes want chunks 0, 1, 2, … in this order, the kept keys the last ones first.
    lo = torch.arange(9.0, 0, -1)[:, None, None]
    kept = torch.arange(9.0)[None, :, None, None]
    queries = torch.ones(1, 1, 1)
    wanted = {1: [0], 2: [0, 1], 3: [0, 1, 8], 4: [0, 1, 2, 8], 6: [0, 1, 2, 3, 7, 8], 9: list(range(9)), 20: list(range(9))}
    for m, chunks in wanted.items():
        assert rules.by_thirds(queries, lo, lo, kept, 1.0, m, 0.0).tolist() == [chunks]


def test_rouge_l_takes_sentences_by_themselves_and_words_once():
    # Of "a b" and "b c", in any order of the sentences; what the package `rouge` says.
    assert metrics.rouge_l("a b. c d.", "c d. a b.", []) == 1
    assert metrics.rouge_l("b a. c c c.", "a b. c.", []) == pytest.approx(2 * 2 / 6)


def test_similarity_of_code_skips_comments_and_markup():
    assert metrics.code("```python\n# a comment\nreturn x + 1\n", "return x + 1", []) == 1
    assert metrics.code("// nothing else", "return", []) == 0
    assert 0 < metrics.code("return x + 2", "return x + 1", []) < 1


class Chatty:
    """A tokenizer whose tokens are characters, and which knows how to chat."""

    chat_template = "some"

    def __call__(self, text, add_special_tokens=True):
        return type("Encoding", (), {"input_ids": list(text)})

    def apply_chat_template(self, messages, **options):
        return f"<u>{messages[0]['content']}</u><a>"


def test_a_longbench_prompt_is_cut_in_the_middle_and_asked_as_a_chat_unless_it_is_to_be_continued():
    sample = {"input": "Who?", "context": "x" * 500, "answers": ["Ada"], "dataset": "multifieldqa_en"}
    said = "".join(longbench.prompt_ids(Chatty(), sample, 200))
    assert len(said) == 200
    assert said.startswith("<u>Read the following text") and said.endswith("Question: Who?\nAnswer:</u><a>")
    said = "".join(longbench.prompt_ids(Chatty(), sample | {"dataset": "lcc", "context": "y = 1\n"}, 200))
    assert said == "Please complete the code given below. \ny = 1\nNext line of code:\n"
