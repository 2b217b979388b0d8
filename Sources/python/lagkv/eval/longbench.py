"""LongBench (arXiv 2308.14508) from a local copy: its JSON lines and the prompts of its 21 sets of English, Chinese and code.

A line is {"input": …, "context": …, "answers": [...], "dataset": …, "all_classes": [...] or null, "_id": …}.
"""

from __future__ import annotations

import json
import pathlib

from .metrics import METRICS

_QA = "Answer the question based on the given passages. Only give me the answer and do not output any other words."
_PASSAGES = _QA + "\n\nThe following are given passages.\n{context}\n\n" + _QA + "\n\nQuestion: {input}\nAnswer:"

# The data sets: prompt, longest answer in tokens, metric.
PROMPTS: dict[str, tuple[str, int, str]] = {
    "narrativeqa": (
        "You are given a story, which can be either a novel or a movie script, and a question. Answer the question "
        "asconcisely as you "
        "can, using a single phrase if possible. Do not provide any explanation.\n\nStory: {context}\n\nNow, answer the "
        "question based on "
        "the story asconcisely as you can, using a single phrase if possible. Do not provide any explanation.\n\nQuestion: "
        "{input}\n\nAnswer:",
        128, "f1",
    ),
    "qasper": (
        'You are given a scientific article and a question. Answer the question as concisely as you can, using a single '
        'phrase or sentence '
        'if possible. If the question cannot be answered based on the information in the article, write "unanswerable". If '
        'the question is '
        'a yes/no question, answer "yes", "no", or "unanswerable". Do not provide any explanation.\n\nArticle: '
        '{context}\n\n Answer the '
        'question based on the above article as concisely as you can, using a single phrase or sentence if possible. If the '
        'question cannot '
        'be answered based on the information in the article, write "unanswerable". If the question is a yes/no question, '
        'answer "yes", '
        '"no", or "unanswerable". Do not provide any explanation.\n\nQuestion: {input}\n\nAnswer:',
        128, "f1",
    ),
    "multifieldqa_en": (
        "Read the following text and answer briefly.\n\n{context}\n\nNow, answer the following question based on the above "
        "text, only give me "
        "the answer and do not output any other words.\n\nQuestion: {input}\nAnswer:",
        64, "f1",
    ),
    "multifieldqa_zh": (
        "阅读以下文字并用中文简短回答：\n\n{context}\n\n现在请基于上面的文章回答下面的问题，只告诉我答案，不要输出任何其他字词。\n\n"
        "问题：{input}\n回答：",
        64, "f1_zh",
    ),
    "hotpotqa": (_PASSAGES, 32, "f1"),
    "2wikimqa": (_PASSAGES, 32, "f1"),
    "musique": (_PASSAGES, 32, "f1"),
    "dureader": (
        "请基于给定的文章回答下述问题。\n\n文章：{context}\n\n请基于上述文章回答下面的问题。\n\n问题：{input}\n回答：", 128, "rouge_l_zh"
    ),
    "gov_report": (
        "You are given a report by a government agency. Write a one-page summary of the "
        "report.\n\nReport:\n{context}\n\nNow, write a one-page "
        "summary of the report.\n\nSummary:",
        512, "rouge_l",
    ),
    "qmsum": (
        "You are given a meeting transcript and a query containing a question or instruction. Answer the query in one or "
        "more sentences.\n\n"
        "Transcript:\n{context}\n\nNow, answer the query based on the above meeting transcript in one or more "
        "sentences.\n\nQuery: {input}\n"
        "Answer:",
        512, "rouge_l",
    ),
    "multi_news": (
        "You are given several news passages. Write a one-page summary of all news. \n\nNews:\n{context}\n\nNow, write a "
        "one-page summary of all "
        "the news.\n\nSummary:",
        512, "rouge_l",
    ),
    "vcsum": (
        "下面有一段会议记录，请你阅读后，写一段总结，总结会议的内容。\n会议记录：\n{context}\n\n会议总结：", 512, "rouge_l_zh"
    ),
    "trec": (
        "Please determine the type of the question below. Here are some examples of questions.\n\n{context}\n{input}",
        64, "accuracy",
    ),
    "triviaqa": (
        "Answer the question based on the given passage. Only give me the answer and do not output any other words. The "
        "following are some "
        "examples.\n\n{context}\n\n{input}",
        32, "f1",
    ),
    "samsum": (
        "Summarize the dialogue into a few short sentences. The following are some examples.\n\n{context}\n\n{input}",
        128, "rouge_l",
    ),
    "lsht": ("请判断给定新闻的类别，下面是一些例子。\n\n{context}\n{input}", 64, "accuracy"),
    "passage_count": (
        "There are some paragraphs below sourced from Wikipedia. Some of them may be duplicates. Please carefully read "
        "these paragraphs and "
        "determine how many unique paragraphs there are after removing duplicates. In other words, how many non-repeating "
        "paragraphs are there "
        "in total?\n\n{context}\n\nPlease enter the final count of unique paragraphs after removing duplicates. The output "
        "format should only "
        "contain the number, such as 1, 2, 3, and so on.\n\nThe final answer is: ",
        32, "count",
    ),
    "passage_retrieval_en": (
        "Here are 30 paragraphs from Wikipedia, along with an abstract. Please determine which paragraph the abstract is "
        "from.\n\n{context}\n\n"
        "The following is an abstract.\n\n{input}\n\nPlease enter the number of the paragraph that the abstract is from. "
        "The answer format must "
        'be like "Paragraph 1", "Paragraph 2", etc.\n\nThe answer is: ',
        32, "retrieval",
    ),
    "passage_retrieval_zh": (
        "以下是若干段落文字，以及其中一个段落的摘要。请确定给定的摘要出自哪一段。\n\n{context}\n\n下面是一个摘要\n\n{input}\n\n"
        '请输入摘要所属段落的编号。答案格式必须是"段落1"，"段落2"等格式\n\n答案是：',
        32, "retrieval",
    ),
    "lcc": ("Please complete the code given below. \n{context}Next line of code:\n", 64, "code"),
    "repobench-p": ("Please complete the code given below. \n{context}{input}Next line of code:\n", 64, "code"),
}  # fmt: skip

# Few-shot sets, whose answers end with their first line.
_ONE_LINE = ("trec", "triviaqa", "samsum", "lsht")
# Sets whose text is to be continued as it stands, without a chat around it.
_AS_IT_STANDS = (*_ONE_LINE, "lcc", "repobench-p")


def read(path: pathlib.Path) -> list[dict]:
    """The samples of one file. Raises ValueError naming the line that is not one."""
    samples = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        if not line.strip():
            continue
        try:
            sample = json.loads(line)
        except json.JSONDecodeError as error:
            raise ValueError(f"{path}:{number}: not JSON: {error}") from None
        missing = {"input", "context", "answers", "dataset"} - set(sample)
        if missing:
            raise ValueError(f"{path}:{number}: not a LongBench sample: no {', '.join(sorted(missing))}")
        if sample["dataset"] not in PROMPTS:
            raise ValueError(f"{path}:{number}: data set {sample['dataset']!r}; there are {', '.join(PROMPTS)}")
        samples.append(sample)
    return samples


def prompt_ids(tokenizer, sample: dict, tokens: int) -> list[int]:
    """The prompt, cut in the middle where it is longer than the model may see, and asked as a chat where the tokenizer knows
    how, both as LongBench does."""
    text = PROMPTS[sample["dataset"]][0].format(context=sample["context"], input=sample["input"])
    before, after = _chat(tokenizer) if sample["dataset"] not in _AS_IT_STANDS else ([], [])
    ids, room = tokenizer(text).input_ids, tokens - len(before) - len(after)
    if len(ids) > room:
        ids = ids[: room // 2] + ids[len(ids) - (room - room // 2) :]
    return before + ids + after


def _chat(tokenizer) -> tuple[list[int], list[int]]:
    """What a chat of one question has before and after it."""
    if not tokenizer.chat_template:
        return [], []
    mark = "QUESTION"
    chat = tokenizer.apply_chat_template([{"role": "user", "content": mark}], tokenize=False, add_generation_prompt=True)
    before, after = chat.split(mark)
    return tokenizer(before).input_ids, tokenizer(after, add_special_tokens=False).input_ids


def score(sample: dict, said: str) -> float:
    """The best of the data set's metric over the sample's right answers, 0 to 1."""
    if sample["dataset"] in _ONE_LINE:
        said = said.lstrip("\n").split("\n")[0]
    metric = METRICS[PROMPTS[sample["dataset"]][2]]
    return max(metric(said, right, sample.get("all_classes") or []) for right in sample["answers"])
