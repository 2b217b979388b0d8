"""The evaluation's own arithmetic: its metrics, its files, its samples. What it measures is in the README."""

from __future__ import annotations

import json

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed: .ci/python-env makes an environment with it")
pytest.importorskip("transformers", reason="transformers is not installed: .ci/python-env installs it")

from lagkv.eval import baselines, longbench, results, tasks  # noqa: E402
from lagkv.eval.methods import Method  # noqa: E402


class Words:
    """A tokenizer whose tokens are words: enough to fit a sample to a length."""

    def __call__(self, text, add_special_tokens=True):
        return type("Encoding", (), {"input_ids": text.split()})


@pytest.mark.parametrize(
    "said, right, expected", [("The Eiffel Tower!", "eiffel tower", 1.0), ("in Paris", "Paris, France", 0.5), ("no", "yes", 0.0)]
)
def test_f1_compares_words_without_articles_and_punctuation(said, right, expected):
    assert longbench.f1(said, right, []) == expected


def test_rouge_l_is_the_longest_common_subsequence():
    assert longbench.rouge_l("the cat sat on the mat", "the cat lay on the mat", []) == pytest.approx(5 / 6)
    assert longbench.rouge_l("", "words", []) == 0


def test_accuracy_is_shared_among_the_classes_that_were_named():
    classes = ["Date", "Country", "Equivalent term"]
    assert longbench.accuracy("It is Date", "Date", classes) == 1
    assert longbench.accuracy("Date or Country", "Date", classes) == 0.5
    assert longbench.accuracy("City", "Date", classes) == 0
    assert longbench.accuracy("Other date", "Other date", ["date", "Other date"]) == 1


def test_numbers_are_found_in_what_was_said():
    assert longbench.count("There are 3, or 4.", "3", []) == 0.5
    assert longbench.retrieval("Paragraph 12", "Paragraph 12", []) == 1
    assert longbench.retrieval("Paragraph 1", "Paragraph 12", []) == 0


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


def test_methods_are_named_with_what_they_recall():
    assert str(Method.parse("lagkv+2", 0.25, 16, 128)) == "lagkv+2"
    assert Method.parse("full", 0.25, 16, 128).keep_ratio == 1
    with pytest.raises(ValueError, match="no method 'best'"):
        Method.parse("best", 0.25, 16, 128)


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
