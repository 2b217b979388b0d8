"""A conversation whose engine and daemon are killed between its turns, and once amid an answer, says what it would have said.

``LAGKV_CONVERSATION=6000`` makes it that many tokens long.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
from multiprocessing.connection import Connection

import pytest
import smollm2
import torch
from lagkv import capture, connect
from lagkv.hf import LagKVCache

pytestmark = pytest.mark.filterwarnings("ignore:`past_key_values` is deprecated")

TOKENS = int(os.environ.get("LAGKV_CONVERSATION", "900"))
TURNS = max(3, TOKENS // 500)
ANSWER = 24
SESSION = dict(keep_ratio=0.125, recall=2)

processes = multiprocessing.get_context("spawn")


class Engine:
    """A model that answers on a session. What it is told is the whole conversation so far, token by token."""

    def __init__(self) -> None:
        self.tokenizer, self.model = smollm2.load()
        # Sums over more threads are sums in another order.
        torch.set_num_threads(1)

    def message(self, turn: int) -> list[int]:
        """What the user says: a passage of the text, and a question about it."""
        opening, question = "<|im_start|>user\n", "\nWhat is this about?<|im_end|>\n<|im_start|>assistant\n"
        before, after = self.tokenizer(opening).input_ids, self.tokenizer(question).input_ids
        room = TOKENS // TURNS - ANSWER - len(before) - len(after)
        return before + capture.english_ids(self.tokenizer, (turn + 1) * room)[0, turn * room :].tolist() + after

    def answer(self, cache: LagKVCache, before: list[int], turn: int, tell) -> None:
        """Tells every token of the answer as it comes. The last one is in no cache: nothing was computed from it."""
        # Of an answer that was not finished nothing stays: it is given again, from the same calls.
        cache.truncate(max(0, len(before) - 1))
        ids = torch.tensor([before + self.message(turn)])
        self.model.generate(
            ids, attention_mask=torch.ones_like(ids), past_key_values=cache, max_new_tokens=ANSWER, do_sample=False,
            pad_token_id=0, streamer=Streamer(tell),
        )  # fmt: skip
        cache.sync()


class Streamer:
    """transformers puts the prompt and then every token; the prompt is known."""

    def __init__(self, tell) -> None:
        self._tell, self._prompt = tell, True

    def put(self, ids: torch.Tensor) -> None:
        if not self._prompt:
            self._tell(int(ids))
        self._prompt = False

    def end(self) -> None: ...


def one_turn(socket, before: list[int], turn: int, told: Connection) -> None:
    """An engine process: answers one turn, then waits to be killed."""
    with connect(socket, timeout=60) as client:
        engine = Engine()
        with LagKVCache.open(client, engine.model, "killed", recall=SESSION["recall"]) as cache:
            engine.answer(cache, before, turn, told.send)
            told.send(None)
            signal.pause()


def kill_both(process, daemon) -> None:
    process.kill()
    process.join()
    assert daemon.stop(signal.SIGKILL) == process.exitcode == -signal.SIGKILL
    daemon.start()


def test_a_conversation_survives_the_death_of_engine_and_daemon(make_daemon) -> None:
    daemon = make_daemon()
    threads = torch.get_num_threads()
    with daemon.connect() as client:
        engine = Engine()
        expected: list[list[int]] = []
        before: list[int] = []
        with LagKVCache.create(client, engine.model, "unbroken", **SESSION) as cache:
            for turn in range(TURNS):
                expected.append([])
                engine.answer(cache, before, turn, expected[-1].append)
                before += engine.message(turn) + expected[-1]
            sealed = cache.session.sealed_chunks
        LagKVCache.create(client, engine.model, "killed", **SESSION).close()
    torch.set_num_threads(threads)
    assert sealed > 2 and len(before) > 0.9 * TOKENS

    before, turn, kills, amid = [], 0, 0, TURNS // 2
    while turn < TURNS:
        ours, theirs = processes.Pipe()
        process = processes.Process(target=one_turn, args=(daemon.socket, before, turn, theirs), daemon=True)
        process.start()
        theirs.close()
        said = []
        while (token := ours.recv()) is not None:
            said.append(token)
            if turn == amid and len(said) == ANSWER // 2:
                break
        kill_both(process, daemon)
        kills += 1
        if token is None:
            assert said == expected[turn], f"turn {turn}"
            before = before + engine.message(turn) + said
            turn += 1
        else:
            amid = None
    print(f"{len(before):,} tokens in {TURNS} turns, {kills} kills of both, {sealed} sealed chunks: the same answers")
