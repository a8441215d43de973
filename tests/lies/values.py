"""Lies about one value, by its type: what a site could send in its place."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

Lies = dict[str, object]

OTHER_SITE = "site-0"
_TEXT = "\x1b]0;owned\x07\u202esite\n-9"
_MEGABYTE = "x" * 10**6


def lies_about(value: object) -> Lies:
    """Return false values in place of a true one, by a name of the lie.

    Raises:
        NotImplementedError: a message holds a value of a type that nobody has yet lied about: add lies here.
    """
    for kind, make in _BY_TYPE.items():
        if type(value) is kind:
            return {name: lie for name, lie in make(value).items() if not _equal(lie, value)}
    raise NotImplementedError(f"no lies are known about a value of the type {type(value).__name__}")


def _about_flag(value: bool) -> Lies:
    return {"the opposite": not value, "a number": 7, "a text": "yes"}


def _about_count(value: float) -> Lies:
    return {
        "negative": -value - 1,
        "zero": type(value)(0),
        "one more": value + 1,
        "one less": value - 1,
        "half more": value + 0.5,
        "doubled": 2 * value,
        "a billion": type(value)(10**9),
        "not a number": float("nan"),
        "infinite": float("inf"),
        "a list": [value],
    }


def _about_whole(value: int) -> Lies:
    return _about_count(value) | {"2^62": 2**62, "a text": str(value), "bytes": b"1"}


def _about_number(value: float) -> Lies:
    return _about_count(value) | {"huge": 1e300, "tiny": 1e-320, "minus infinite": float("-inf")}


def _about_text(value: str) -> Lies:
    return {
        "empty": "",
        "another": value + "x",
        "another site's": OTHER_SITE,
        "control characters": value + _TEXT,
        "a megabyte": _MEGABYTE,
        "a path": "../" + value,
        "markup": f"<b>{value}</b>",
        "a number": 5,
        "a list": [value],
        "bytes": value.encode(),
    }


def _about_list(value: list[Any]) -> Lies:
    lies: Lies = {
        "empty": [],
        "one of them": value[:1],
        "too short": value[:-1],
        "too long": value + value[:1],
        "in another order": value[::-1],
        "of other classes": value[1:] + value[:1],
        "a million": (value or [0])[:1] * 10**6,
        "texts": [str(one) for one in value] or ["x"],
        "numbers": list(range(len(value))) or [1],
        "no list": str(value),
    }
    each: dict[str, Callable[[Any], object]] = {}
    if value and type(value[0]) is int:
        each = {
            "all negative": lambda one: -one - 1,
            "all zero": lambda one: 0,
            "all doubled": lambda one: 2 * one,
            "all one more": lambda one: one + 1,
            "all fractions": lambda one: one + 0.5,
            "all a billion": lambda one: 10**9,
            "all 2^62": lambda one: 2**62,
        }
        lies |= {
            "the first one more": [value[0] + 1, *value[1:]],
            "the first one less": [value[0] - 1, *value[1:]],
            "all of the first class": [sum(value), *[0] * (len(value) - 1)],
        }
    elif value and type(value[0]) is str:
        each = {
            "all empty": lambda one: "",
            "all equal": lambda one: value[0],
            "with control characters": lambda one: one + _TEXT,
            "each a megabyte": lambda one: _MEGABYTE,
        }
        lies["the first another"] = [value[0] + "x", *value[1:]]
    return lies | {name: [lie(one) for one in value] for name, lie in each.items()}


def about_array(value: NDArray[Any]) -> dict[str, NDArray[Any]]:
    """Return false arrays in place of a true one, by a name of the lie; some are of another dtype or shape."""
    one_up, half_up, with_nan, with_infinite = (np.array(value) for _ in range(4))
    lies: dict[str, NDArray[Any]] = {
        "negative": -value - 1,
        "zero": np.zeros_like(value),
        "all one more": value + 1,
        "doubled": value * 2,
        "halved": value / 2,
        "a little more": value * 1.2,
        "a billion times": value * 1e9,
        "a billion more": value + 1e9,
        "all 1e14": np.full_like(value, 1e14),
        "all 1e300": np.full(value.shape, 1e300),
        "of other classes": np.roll(value, 1, axis=0) if value.ndim else value,
        "in reverse": value[::-1] if value.ndim else value,
        "transposed": np.swapaxes(value, 0, 1) if value.ndim > 1 else value,
        "all in the first": _in_the_first(value),
        "float32": value.astype(np.float32),
        "float16": np.zeros(value.shape, np.float16),
        "uint8": np.zeros(value.shape, np.uint8),
        "flags": np.zeros(value.shape, np.bool_),
        "one axis more": value[..., None],
        "too long": np.concatenate([value, value]) if value.ndim else np.zeros(2),
        "empty": np.zeros((0, *value.shape[1:]), value.dtype),
    }
    if value.size and value.dtype.kind == "f":
        for lie, amount in ((one_up, 1.0), (half_up, 0.5), (with_nan, np.nan), (with_infinite, np.inf)):
            lie[(0,) * value.ndim] += amount
        more = {"one more": one_up, "half more": half_up, "not a number": with_nan, "infinite": with_infinite}
        lies |= more
    keeps_type = {"float32", "float16", "uint8", "flags", "all 1e300"}
    typed = {
        name: lie if name in keeps_type or value.dtype.kind != "f" else lie.astype(value.dtype)
        for name, lie in lies.items()
    }
    return {name: np.ascontiguousarray(lie) for name, lie in typed.items() if not _equal(lie, value)}


def _in_the_first(value: NDArray[Any]) -> NDArray[Any]:
    moved = np.zeros_like(value)
    if value.size:
        moved[(0,) * value.ndim] = value.sum()
    return moved


def _equal(one: object, other: object) -> bool:
    if isinstance(one, np.ndarray) and isinstance(other, np.ndarray):
        return one.dtype == other.dtype and one.shape == other.shape and bool((one == other).all())
    return type(one) is type(other) and one == other


_BY_TYPE: dict[type, Callable[[Any], Lies]] = {
    bool: _about_flag,
    int: _about_whole,
    float: _about_number,
    str: _about_text,
    list: _about_list,
}
