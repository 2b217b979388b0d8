"""What is asked: texts with something hidden in them, and what the right answer is. The same seed makes the same sample."""

from __future__ import annotations

import dataclasses
import random
import uuid
from collections.abc import Callable

from lagkv import capture


@dataclasses.dataclass(frozen=True)
class Sample:
    """A context, a question about it, and the words of the right answer, which must come first in the model's."""

    context: str
    question: str
    answer: str


def fitted(tokenizer, tokens: int, build: Callable[[int], Sample], most: int) -> Sample:
    """The sample with as much filler as keeps context and question within so many tokens: `build` takes units of filler, at
    most `most`."""
    low, high = 0, most
    while low < high:
        middle = (low + high + 1) // 2
        sample = build(middle)
        fits = len(tokenizer(sample.context + sample.question, add_special_tokens=False).input_ids) <= tokens
        low, high = (middle, high) if fits else (low, middle - 1)
    return build(low)


def passkey(tokenizer, tokens: int, seed: int, digits: int) -> Sample:
    """The paper's test, in the words of its origin (Mohtashami and Jaggi, arXiv 2305.16300): a number in a heap of repeated
    sentences, cut where the length wants it. A number of more than 16 digits is said a third time: said twice, a model of 135
    million parameters loses its way in some of 64 digits even with the full cache."""
    chance = random.Random(seed)
    key, depth = "".join(chance.choices("0123456789", k=digits)), chance.random()
    task = (
        "There is an important info hidden inside a lot of irrelevant text. Find it and memorize them. "
        "I will quiz you about the important information there."
    )
    sentences = "The grass is green. The sky is blue. The sun is yellow. Here we go. There and back again."
    filler = " ".join([sentences] * tokens)

    def build(characters: int) -> Sample:
        before = int(characters * depth)
        hidden = f"The pass key is {key}. Remember it. {key} is the pass key."
        if digits > 16:
            hidden += f" I repeat: the pass key is {key}."
        context = "\n".join((task, filler[:before], hidden, filler[: characters - before]))
        return Sample(context, "\nWhat is the pass key? The pass key is", key)

    return fitted(tokenizer, tokens, build, most=8 * tokens)


def needle(tokenizer, tokens: int, seed: int, digits: int) -> Sample:
    """A sentence with a number in real English prose (RULER's single needle, arXiv 2404.06654)."""
    chance = random.Random(seed)
    words = capture.english().split()
    start, depth = chance.randrange(len(words) // 2), chance.random()
    city = chance.choice(("Lisbon", "Nairobi", "Osaka", "Quito", "Tallinn", "Perth", "Halifax", "Bergen"))
    number = "".join(chance.choices("0123456789", k=digits))

    def build(units: int) -> Sample:
        text = words[start : start + units]
        at = int(len(text) * depth)
        hidden = f"\nThe special magic number for {city} is {number}.\n"
        context = " ".join(text[:at]) + hidden + " ".join(text[at:])
        return Sample(context, f"\nThe special magic number for {city} that the text mentions is", number)

    return fitted(tokenizer, tokens, build, most=tokens)


def multikey(tokenizer, tokens: int, seed: int, digits: int) -> Sample:
    """Many UUIDs, each with a UUID of its own, and one is asked for (RULER's multikey 3). Every line could be the answer, so
    nothing may be evicted at all: the hardest for LagKV. The question repeats the words of the lines, where RULER's does not,
    because small models answer nothing else. `digits` has no meaning here."""
    chance = random.Random(seed)

    def number() -> str:
        return str(uuid.UUID(int=chance.getrandbits(128), version=4))

    pairs = [(number(), number()) for _ in range(tokens // 10)]
    depth = chance.random()

    def build(units: int) -> Sample:
        lines = pairs[: max(1, units)]
        key, value = lines[int(len(lines) * depth)]
        context = "".join(f"One of the special magic uuids for {k} is: {v}.\n" for k, v in lines)
        return Sample(context, f"One of the special magic uuids for {key} is:", value)

    return fitted(tokenizer, tokens, build, most=tokens)


TASKS = {"passkey": passkey, "needle": needle, "multikey": multikey}
