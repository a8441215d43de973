"""Sections of options: read from flat, dotted names, with an error text for each wrong option."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from fl_app.errors import OptionError, did_you_mean
from fl_app.plugins import built_in, installed

OptionValue = bool | int | float | str

SAFE_NAME = r"\.?[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*\.?"  # never `.` or `..`, since it names folders
LONGEST_NAME = 64  # characters of a site's or class's name
BASELINES = ("local", "centralised")
TASKS = built_in("tasks")


def split_words(value: object) -> object:
    """Split a comma-separated option, since Flower's options cannot be lists."""
    if not isinstance(value, str):
        return value
    return tuple(part.strip() for part in value.split(",") if part.strip())


Names = Annotated[tuple[str, ...], BeforeValidator(split_words)]
Integers = Annotated[tuple[Annotated[int, Field(ge=1, strict=False)], ...], BeforeValidator(split_words)]


@dataclass(frozen=True)
class Plugin:
    """Marks an option that holds the name of a built-in part or a plug-in.

    Attributes:
        kind: of plug-in; see `fl_app.plugins`.
        beside: further words that the option accepts, such as `auto`.
    """

    kind: str
    beside: tuple[str, ...] = ()

    def names(self) -> str:
        """Return the names that the option accepts, for its description."""
        return ", ".join((*self.beside, *built_in(self.kind), *(f"{name} (plug-in)" for name in installed(self.kind))))


@dataclass(frozen=True)
class Named:
    """The name of a built-in part or a plug-in, as an option holds it."""

    option: str
    kind: str
    name: str
    beside: tuple[str, ...] = ()


class Section(BaseModel):
    """A group of options: frozen, with kebab-case names outside; unknown names are rejected."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        strict=True,
        allow_inf_nan=False,
        alias_generator=lambda name: name.replace("_", "-"),
    )


S = TypeVar("S", bound=Section)


def option_names(section: type[Section]) -> list[str]:
    """Return the dotted name of every option."""
    return [name for name, _ in _fields(section)]


def describe_section(section: type[Section]) -> Iterator[tuple[str, str]]:
    """Yield (dotted name, description) of every option."""
    for name, field in _fields(section):
        lists = [marker.names() for marker in field.metadata if isinstance(marker, Plugin)]
        yield name, ". ".join([field.description or "", *(names for names in lists if names)])


def _fields(section: type[Section], prefix: str = "") -> Iterator[tuple[str, FieldInfo]]:
    """Yield (dotted name, field) of every option."""
    for field in section.model_fields.values():
        name = f"{prefix}{field.alias}"
        if isinstance(field.annotation, type) and issubclass(field.annotation, Section):
            yield from _fields(field.annotation, f"{name}.")
        else:
            yield name, field


def named_in(section: Section, prefix: str = "") -> Iterator[Named]:
    """Yield every name of a built-in part or a plug-in that an option holds."""
    for key, field in type(section).model_fields.items():
        value, option = getattr(section, key), f"{prefix}{field.alias}"
        if isinstance(value, Section):
            yield from named_in(value, f"{option}.")
        for marker in (marker for marker in field.metadata if isinstance(marker, Plugin)):
            for name in value if isinstance(value, tuple) else (value,):
                if name not in marker.beside:
                    yield Named(option, marker.kind, name, marker.beside)


def unknown_option(name: str, known: list[str]) -> OptionError:
    """Return the error for an option that does not exist, with the most similar name."""
    same = [
        option for option in known if option.rsplit(".", 1)[-1] == name.rsplit(".", 1)[-1]
    ]  # same name, another section
    hint = did_you_mean(name, known) or did_you_mean(name, same, least=0.0) or " `fl-app options` lists them all."
    return OptionError(f"Option '{name}' does not exist.{hint}")


def read_section(section: type[S], options: Mapping[str, object]) -> S:
    """Build a section from flat, dotted options; the first problem becomes an OptionError."""
    nested: dict[str, object] = {}
    for name, value in options.items():
        *parents, leaf = name.split(".")
        place = nested
        for parent in parents:
            inner = place.setdefault(parent, {})
            if not isinstance(inner, dict):
                raise unknown_option(name, [known for known, _ in _fields(section)])
            place = inner
        place[leaf] = value
    try:
        return section.model_validate(nested)
    except ValidationError as error:
        raise _option_error(section, error.errors()[0], options) from None


_RANGES = {
    "greater_than_equal": ("at least", "ge"),
    "greater_than": ("more than", "gt"),
    "less_than_equal": ("at most", "le"),
    "less_than": ("less than", "lt"),
}


_TYPES = {
    "int_type": "a whole number, such as 3",
    "int_parsing": "a whole number, such as 3",
    "int_from_float": "a whole number, such as 3",
    "float_type": "a number, such as 0.5",
    "finite_number": "a finite number",
    "bool_type": "true or false",
    "string_type": "text",
}


def _option_error(section: type[Section], problem: ErrorDetails, options: Mapping[str, object]) -> OptionError:
    name = ".".join(part for part in problem["loc"] if isinstance(part, str))  # without positions in a list
    kind, found, context = problem["type"], problem["input"], problem.get("ctx", {})
    known = [option for option, _ in _fields(section)]
    if kind == "extra_forbidden":  # if a whole section is unknown, name its first option
        return unknown_option(next((one for one in options if one.startswith(f"{name}.")), name), known)
    if kind == "model_type":
        example = next(option for option in known if option.startswith(f"{name}."))
        return OptionError(f"'{name}' is a section of options: set one of them, such as '{example}'.")
    if kind == "missing":
        return OptionError(f"Option '{name}' is missing: it needs a value in pyproject.toml or on the command line.")
    if kind == "too_short":
        return OptionError(f"Option '{name}' must not be empty.")
    if kind in _RANGES:
        words, limit = _RANGES[kind]
        return OptionError(f"Option '{name}' must be {words} {context[limit]}, got {found}.")
    if kind == "literal_error":
        hint = did_you_mean(found, re.findall(r"'([^']*)'", context["expected"]))
        return OptionError(f"Option '{name}' must be {context['expected']}, got {found!r}.{hint}")
    if kind == "value_error":
        text = f"Option '{name}': {context['error']}" if name else f"Option {context['error']}"
        return OptionError(text if text.endswith((".", "?")) else f"{text}.")
    if kind == "string_too_long":
        return OptionError(f"Option '{name}' must have at most {context['max_length']} characters, got {len(found)}.")
    if kind == "string_pattern_mismatch":
        return OptionError(
            f"Option '{name}' must consist of the letters a to z and A to Z, digits, '.', '_' and '-', without '..', "
            f"got {found!r}."
        )
    if kind in _TYPES:
        return OptionError(f"Option '{name}' must be {_TYPES[kind]}, got {found!r}.")
    message = problem["msg"].removeprefix("Input should be ")
    return OptionError(f"Option '{name}' must be {message}, got {found!r}.")


def flatten(options: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, OptionValue]]:
    """Yield (dotted name, value) of nested options; a tuple becomes comma-separated text."""
    for name, value in options.items():
        if isinstance(value, Mapping):
            yield from flatten(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", ",".join(map(str, value)) if isinstance(value, tuple) else value


def is_site_name(name: str) -> bool:
    """Return whether a site may have this name: letters, digits, `_`, `-`, single dots, not too long."""
    return len(name) <= LONGEST_NAME and re.fullmatch(SAFE_NAME, name) is not None
