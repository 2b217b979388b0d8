"""A session in this process, by the plainest means: what lagkv.hf asks of one, without a daemon.

It keeps every token and works the kept set out anew from the paper's formulas, so that it is also an oracle."""

import types

import numpy as np
import torch

KINDS = {"bfloat16": torch.bfloat16, "float32": torch.float32, "float16": torch.float16}


def lagkv_kept(keys, values, sink, lag, ratio, weight=1.0):
    """The positions that stay of [heads, tokens, dim], [heads, n] ascending: sink, kept and window, as the paper has it."""
    heads, tokens, _ = keys.shape
    chunks = (tokens - sink) // lag if tokens > sink else 0
    if chunks < 2 or ratio >= 1:
        return torch.arange(tokens).expand(heads, tokens)
    end = sink + chunks * lag

    def scores(x):
        x = x[:, sink:end].double().reshape(heads, chunks, lag, -1)
        lo, hi = x[:, 1:].amin(2, keepdim=True), x[:, 1:].amax(2, keepdim=True)
        scaled = torch.where(hi > lo, (x[:, :-1] - lo) / (hi - lo), 0.0)
        return scaled.std(-1).softmax(-1)

    score = scores(keys) + weight * scores(values)
    kept = score.topk(int(ratio * lag), dim=-1).indices.sort(-1).values
    kept = (kept + sink + lag * torch.arange(chunks - 1)[None, :, None]).reshape(heads, -1)
    first, last = torch.arange(sink).expand(heads, -1), torch.arange(end - lag, tokens).expand(heads, -1)
    return torch.cat((first, kept, last), dim=1)


class FakeSession:
    RECALL = 4096

    def __init__(self, store, name, description):
        self.store, self.name, self.description = store, name, description
        d = description
        self.kind = KINDS[d.dtype]
        shape = lambda dim: (d.layers, d.kv_heads, self.RECALL + d.capacity, dim)
        self.rows = [torch.zeros(shape(dim), dtype=self.kind) for dim in (d.key_dim, d.value_dim)]
        self.all = [torch.zeros(d.layers, d.kv_heads, 0, dim, dtype=self.kind) for dim in (d.key_dim, d.value_dim)]
        self._ids = np.zeros(d.capacity, np.uint32)
        self.tokens = self.generation = 0
        self.positions = [np.zeros((d.kv_heads, 0), np.int32)] * d.layers
        self.recalled = [np.zeros((d.kv_heads, 0), np.int32)] * d.layers
        self.most = d.capacity

    @property
    def sealed_chunks(self):
        d = self.description
        return 0 if d.keep_ratio >= 1 else max(0, (self.tokens - d.sink) // d.lag - 1)

    @property
    def grant(self):
        return min(self.description.capacity, self.tokens + self.most)

    @property
    def ids(self):
        return self._ids[: self.tokens]

    def window_ids(self, m):
        return self._ids[self.tokens : self.tokens + m]

    def slab(self, layer):
        return tuple(part[layer].view(torch.uint16).numpy() if self.kind == torch.bfloat16 else part[layer].numpy() for part in self.rows)

    def extent(self, layer):
        return slice(self.RECALL - self.recalled[layer].shape[1], self.RECALL + self.positions[layer].shape[1])

    def view(self, layer):
        return types.SimpleNamespace(positions=np.concatenate((self.recalled[layer], self.positions[layer]), axis=1))

    def commit(self, tokens):
        m = tokens - self.tokens
        for part in (0, 1):
            new = [self.rows[part][layer][:, self.extent(layer).stop :][:, :m] for layer in range(self.description.layers)]
            self.all[part] = torch.cat((self.all[part], torch.stack(new)), dim=2)
        sealed, self.tokens = self.sealed_chunks, tokens
        self.arrange(moved=self.sealed_chunks != sealed)

    def append(self, k, v, ids=None):
        if ids is not None:
            self.window_ids(k.shape[2])[:] = ids
        for part, new in enumerate((k, v)):
            new = torch.from_numpy(new)
            self.all[part] = torch.cat((self.all[part], new.view(self.kind) if new.dtype == torch.uint16 else new), dim=2)
        self.tokens += k.shape[2]
        self.arrange(moved=True)

    def arrange(self, moved):
        d = self.description
        self.generation += 2 * moved
        for layer in range(d.layers):
            keys, values = self.all[0][layer], self.all[1][layer]
            kept = lagkv_kept(keys, values, d.sink, d.lag, 1 if layer in d.uncompressed_layers else d.keep_ratio)
            self.positions[layer] = kept.numpy().astype(np.int32)
            everything = np.concatenate((self.recalled[layer], self.positions[layer]), axis=1)
            index = torch.from_numpy(everything.astype(np.int64))[:, :, None]
            start = self.RECALL - self.recalled[layer].shape[1]
            for part, data in enumerate((keys, values)):
                self.rows[part][layer][:, start : start + index.shape[1]] = data.gather(1, index.expand(-1, -1, data.shape[2]))

    def summaries(self, layer):
        d, n = self.description, self.sealed_chunks
        x = self.all[0][layer][:, d.sink : d.sink + n * d.lag].reshape(d.kv_heads, n, d.lag, -1).transpose(0, 1)
        return tuple(b.contiguous().view(torch.uint16).numpy() if self.kind == torch.bfloat16 else b.contiguous().numpy() for b in (x.amin(2), x.amax(2)))

    def recall_layers(self, chosen):
        d = self.description
        for layer, chunks in chosen.items():
            rows = []
            for head, numbers in enumerate(np.asarray(chunks)):
                mine = np.concatenate([np.arange(d.sink + c * d.lag, d.sink + (c + 1) * d.lag) for c in numbers])
                rows.append(np.setdiff1d(mine, self.positions[layer][head]))
            self.recalled[layer] = np.concatenate((np.stack(rows).astype(np.int32), self.recalled[layer]), axis=1)
        self.arrange(moved=True)

    def release(self):
        self.recalled = [np.zeros((self.description.kv_heads, 0), np.int32)] * self.description.layers
        self.generation += 2

    def truncate(self, tokens):
        self.release()
        self.all = [part[:, :, :tokens] for part in self.all]
        self._ids[tokens:] = 0
        self.tokens = tokens
        self.arrange(moved=True)

    def fork(self, name, tokens=None):
        other = self.store.create(name, **vars(self.description))
        n = self.tokens if tokens is None else tokens
        other.all = [part[:, :, :n].clone() for part in self.all]
        other._ids[:n], other.tokens = self._ids[:n], n
        other.arrange(moved=True)

    def close(self): ...


class FakeClient:
    def __init__(self):
        self.made = {}

    def create(self, name, **description):
        description = {"uncompressed_layers": (), **description}
        self.made[name] = FakeSession(self, name, types.SimpleNamespace(**description))
        return self.made[name]

    def open(self, name, write=False, fingerprint=None):
        return self.made[name]
