"""LongBench's metrics (arXiv 2308.14508): how near what was said is to the right answer, 0 to 1.

Two things differ from its own scripts, by less than a point of a hundred: similarity of code is difflib's, which those fall
back to without python-Levenshtein, and not rounded to a hundredth; and of several class names within the right one's none
counts, where those overlook every second.
"""

from __future__ import annotations

import collections
import difflib
import re
import string
from collections.abc import Callable


def _words(text: str) -> list[str]:
    """Lower case, without punctuation and articles: SQuAD's way of comparing."""
    text = "".join(c for c in text.lower() if c not in string.punctuation)
    return re.sub(r"\b(a|an|the)\b", " ", text).split()


def _chinese_words(text: str) -> list[str]:
    """Chinese has no spaces: jieba's dictionary says where a word ends."""
    try:
        import jieba
    except ImportError:
        raise ValueError("LongBench's Chinese sets cut words with jieba, which is not installed: pip install jieba") from None
    jieba.setLogLevel("WARNING")
    return list(jieba.cut(text))


def f1(said: str, right: str, classes: list[str]) -> float:
    return _f1(_words(said), _words(right))


def f1_zh(said: str, right: str, classes: list[str]) -> float:
    return _f1(*(list(filter(None, map(_bare, _chinese_words(text)))) for text in (said, right)))


def _f1(said: list[str], right: list[str]) -> float:
    common = sum((collections.Counter(said) & collections.Counter(right)).values())
    return 2 * common / (len(said) + len(right)) if common else 0.0


def _bare(word: str) -> str:
    """In lower case, without spaces, marks and brackets, those of other scripts included."""
    return "".join(c for c in word.lower() if not c.isspace() and c not in string.punctuation and c not in _FULL_WIDTH)


# Of Unicode's general punctuation, symbols and full forms, those that LongBench takes away.
_FULL_WIDTH = "！？｡。＂＃＄％＆＇（）＊＋，－／：；＜＝＞＠［＼］＾＿｀｛｜｝～｟｠｢｣､、〃》「」『』【】〔〕〖〗〘〙〚〛〜〝〞〟〰〾〿–—‘’‛“”„‟…‧﹏."


def rouge_l(said: str, right: str, classes: list[str]) -> float:
    """ROUGE-L of whole texts: F1 over distinct words, where the words that count are those of the longest common subsequence
    of any sentence of one with any sentence of the other."""
    mine, other = _sentences(said), _sentences(right)
    common = set().union(*(_common_subsequence(a, b) for a in other for b in mine))
    distinct = len(set().union(*mine)) + len(set().union(*other))
    return 2 * len(common) / distinct if common else 0.0


def rouge_l_zh(said: str, right: str, classes: list[str]) -> float:
    return rouge_l(*(" ".join(_chinese_words(text)) for text in (said, right)), classes)


def _sentences(text: str) -> list[list[str]]:
    return [sentence.split() for sentence in text.split(".") if sentence]


def _common_subsequence(a: list[str], b: list[str]) -> set[str]:
    """The words of a longest one."""
    lengths = [[0] * (len(b) + 1)]
    for word in a:
        row = [0]
        for column, other in enumerate(b):
            row.append(lengths[-1][column] + 1 if word == other else max(lengths[-1][column + 1], row[-1]))
        lengths.append(row)
    words, i, j = set(), len(a), len(b)
    while i and j:
        if a[i - 1] == b[j - 1]:
            words.add(a[i - 1])
            i, j = i - 1, j - 1
        elif lengths[i - 1][j] > lengths[i][j - 1]:
            i -= 1
        else:
            j -= 1
    return words


def accuracy(said: str, right: str, classes: list[str]) -> float:
    """Right if the class is named; less where others are named too. A class within the right one's name does not count."""
    named = [each for each in classes if each in said and not (each in right and each != right)]
    return 1 / len(named) if right in named else 0.0


def count(said: str, right: str, classes: list[str]) -> float:
    """The share of the numbers said that are the right one."""
    numbers = re.findall(r"\d+", said)
    return numbers.count(right.strip()) / len(numbers) if numbers else 0.0


def retrieval(said: str, right: str, classes: list[str]) -> float:
    number = re.search(r"(?:Paragraph |段落)(\d+)", right)
    return count(said, number[1], classes) if number else 0.0


def code(said: str, right: str, classes: list[str]) -> float:
    """How alike the first line that is neither comment nor markup is."""
    lines = (line for line in said.lstrip("\n").split("\n") if not any(mark in line for mark in ("`", "#", "//")))
    return difflib.SequenceMatcher(None, next(lines, ""), right).ratio()


METRICS: dict[str, Callable[[str, str, list[str]], float]] = {
    "f1": f1, "f1_zh": f1_zh, "rouge_l": rouge_l, "rouge_l_zh": rouge_l_zh,
    "accuracy": accuracy, "count": count, "retrieval": retrieval, "code": code,
}  # fmt: skip
