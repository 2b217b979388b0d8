"""lagkv: the client of lagkvd, which keeps the KV caches of LLM sessions in shared memory at a fraction of their size,
every token on disk.

>>> client = lagkv.connect()
>>> s = client.create("chat-42", layers=30, kv_heads=3, key_dim=64, dtype="bfloat16", capacity=8192, keep_ratio=0.25)
>>> s.append(k, v)              # [layers, kv_heads, tokens, dim]
>>> s.view(0).keys.shape        # what attention reads: [kv_heads, rows in memory, key_dim], no copy
>>> k0, v0 = s.full(0)          # every token, bit for bit
"""

from .client import Client, connect
from .errors import (
    AlreadyExists,
    BadRequest,
    BudgetExceeded,
    Busy,
    ConnectionLost,
    Corrupt,
    DiskError,
    LagKVError,
    LimitExceeded,
    Mismatch,
    NotFound,
    NotPermitted,
    OutOfResources,
    ProtocolError,
    SessionGone,
)
from .session import Session
from .view import View
from .wire import Description, SessionRow

__all__ = [
    "AlreadyExists",
    "BadRequest",
    "BudgetExceeded",
    "Busy",
    "Client",
    "ConnectionLost",
    "Corrupt",
    "Description",
    "DiskError",
    "LagKVError",
    "LimitExceeded",
    "Mismatch",
    "NotFound",
    "NotPermitted",
    "OutOfResources",
    "ProtocolError",
    "Session",
    "SessionGone",
    "SessionRow",
    "View",
    "connect",
]
