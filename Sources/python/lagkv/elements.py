"""The five element types, and how numpy holds them.

numpy has no bfloat16 and no 8-bit floats, so those come and go as unsigned integers of the same width that hold the same
bits. Nothing is ever converted: what goes in comes back bit for bit.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class Element(NamedTuple):
    """One element type: its number on the wire, its name, the numpy type of its arrays, and the names that an input
    array's dtype may have besides (those of ``ml_dtypes``)."""

    code: int
    name: str
    storage: np.dtype
    aliases: frozenset[str]


_ALL = (
    Element(1, "float32", np.dtype("<f4"), frozenset()),
    Element(2, "float16", np.dtype("<f2"), frozenset()),
    Element(3, "bfloat16", np.dtype("<u2"), frozenset({"bfloat16"})),
    Element(4, "float8_e4m3", np.dtype("u1"), frozenset({"float8_e4m3fn", "float8_e4m3"})),
    Element(5, "float8_e5m2", np.dtype("u1"), frozenset({"float8_e5m2"})),
)

BY_CODE = {element.code: element for element in _ALL}
BY_NAME = {element.name: element for element in _ALL}


def named(dtype: object) -> Element:
    """The element type that ``dtype`` names: a string ("bfloat16"), a numpy or ``ml_dtypes`` dtype or type.

    Raises:
        ValueError: none of the five.
    """
    name = dtype if isinstance(dtype, str) else np.dtype(dtype).name  # type: ignore[call-overload]
    for element in _ALL:
        if name == element.name or name in element.aliases:
            return element
    raise ValueError(f"no element type {name!r}; there are {', '.join(BY_NAME)}")


def as_stored(array: np.ndarray, element: Element) -> np.ndarray:
    """``array`` with the dtype of ``element``'s arrays: the same memory, never a conversion.

    Accepted are the type itself and unsigned integers of its width.

    Raises:
        TypeError: another type, even of the same width: its bits would mean something else.
    """
    dtype = array.dtype
    if dtype == element.storage:
        return array
    same_bits = dtype.kind == "u" and dtype.itemsize == element.storage.itemsize and dtype.isnative
    if same_bits or dtype.name in element.aliases:
        return array.view(element.storage)
    raise TypeError(
        f"an array of {dtype.name} for a session of {element.name}; expected {element.name}, or its bits as "
        f"uint{8 * element.storage.itemsize}"
    )
