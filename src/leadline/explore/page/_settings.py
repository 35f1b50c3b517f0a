"""Settings of a room: a frozen dataclass, its controls, and its form in an address.

The annotation of a field defines the allowed values, and its attribute docstring is the help text:

    @dataclass(frozen=True)
    class Settings:
        time: Annotated[int, Between(5, 200)] = 50
        \"\"\"Timesteps of the sequence.\"\"\"
        loss: Literal["last", "all"] = "last"
        \"\"\"Timesteps that enter the loss.\"\"\"

``Literal`` is a choice and ``bool`` a switch. Every other type is annotated with a :class:`Kind`:
:class:`Between`, :class:`Draw`, :class:`Text`, or a new subclass. The label of a control is the
name of its field with spaces; a :class:`Label` in the annotation replaces it.
"""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass, fields
from functools import cache
from typing import Annotated, Any, Literal, TypeVar, get_args, get_origin, get_type_hints
from urllib.parse import parse_qsl, urlencode

from docstring_parser import parse_from_object

from leadline import checks
from leadline.errors import InputError, nearest

S = TypeVar("S")

MOST_SETTINGS = 100
"""Largest number of settings in an address; more would only cost time."""

LONGEST_NAME = 50
"""Largest number of characters of a wrong name that an error shows."""

MOST_SUGGESTIONS = 3
"""Largest number of names that an error suggests."""


class Kind:
    """The allowed values of a field. A subclass reads a value or raises ``ValueError``."""

    def read(self, value: Any) -> Any:
        """Return the value of a control, or of the text in an address."""
        raise NotImplementedError

    def write(self, value: Any) -> str:
        """Return the text of a value in an address."""
        return str(value)

    @property
    def rule(self) -> str:
        """The rule for values, for error messages."""
        raise NotImplementedError


@dataclass(frozen=True)
class Label:
    """The label of a control, if it differs from the name of the field."""

    text: str


@dataclass(frozen=True)
class Between(Kind):
    """A number on a slider; a whole number if the step is whole."""

    low: float
    high: float
    step: float = 1

    def read(self, value: Any) -> float:
        """Return the number, rounded to the digits of the step."""
        number = _number(value)
        if not self.low <= number <= self.high:
            raise ValueError
        return int(number) if self.is_whole and number == int(number) else self._rounded(number)

    def _rounded(self, value: float) -> float:
        if self.is_whole:
            raise ValueError
        return round(value, 1 - math.floor(math.log10(self.step))) + 0.0  # so that -0.0 is 0.0

    def write(self, value: float) -> str:
        """Return the number without trailing zeros."""
        return f"{value:g}"

    @property
    def is_whole(self) -> bool:
        """True if only whole numbers are allowed."""
        return float(self.step).is_integer()

    @property
    def rule(self) -> str:
        """The range of allowed numbers."""
        kind = "a whole number" if self.is_whole else "a number"
        return f"{kind} from {self.low:g} to {self.high:g}"


@dataclass(frozen=True)
class Draw(Kind):
    """A seed, with a button that draws a new seed."""

    button: str
    """Label of the button, such as ``"new sample"``."""

    def read(self, value: Any) -> int:
        """Return the seed."""
        number = _number(value)
        if not 0 <= number < 2**31 or number != int(number):
            raise ValueError
        return int(number)

    @property
    def rule(self) -> str:
        """The range of seeds."""
        return "a whole number from 0 to 2147483647"


@dataclass(frozen=True)
class Choice(Kind):
    """A choice of one name from a list."""

    names: tuple[str, ...]

    def read(self, value: Any) -> str:
        """Return the chosen name."""
        if not isinstance(value, str) or value not in self.names:
            raise ValueError
        return str(value)

    @property
    def rule(self) -> str:
        """The list of names."""
        return "one of " + ", ".join(self.names)


@dataclass(frozen=True)
class Switch(Kind):
    """A switch: yes or no."""

    def read(self, value: Any) -> bool:
        """Return True for yes, False for no."""
        if isinstance(value, str) and value in ("yes", "no"):
            return value == "yes"
        return checks.flag(value, "a switch")

    def write(self, value: bool) -> str:
        """Return ``"yes"`` or ``"no"``."""
        return "yes" if value else "no"

    @property
    def rule(self) -> str:
        """The two words."""
        return "yes or no"


@dataclass(frozen=True)
class Text(Kind):
    """A text of one or more lines."""

    longest: int = 200
    rows: int = 1

    def read(self, value: Any) -> str:
        """Return the text, if it is not too long."""
        text = plain_text(value)
        if len(text) > self.longest:
            raise ValueError
        return text

    @property
    def rule(self) -> str:
        """The largest length."""
        return f"text of at most {self.longest} characters"


def plain_text(value: Any) -> str:
    """Return a text that UTF-8 can encode; a lone surrogate, which JSON allows, is refused."""
    if not isinstance(value, str):
        raise ValueError
    value.encode()
    return str(value)


def _number(value: Any) -> float:
    """Return a number or the number in a text; booleans and other texts are refused."""
    if isinstance(value, str):
        if not NUMBER.fullmatch(value):
            raise ValueError
        return float(value)
    return checks.number(value, "a setting")


NUMBER = re.compile(r"\s*[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?\s*", re.ASCII)
"""Form of a number in a control or an address."""


@dataclass(frozen=True)
class Field:
    """One field of a settings class."""

    name: str
    kind: Kind
    default: Any
    help: str
    label: str

    def read(self, value: Any) -> Any:
        """Return the value, or raise an :class:`InputError` that names the field."""
        try:
            return self.kind.read(value)
        except (ValueError, TypeError, OverflowError):
            raise InputError(
                f"{self.name} must be {self.kind.rule}", got=f"{self.name} = {checks.shown(value)}"
            ) from None


@cache
def fields_of(settings: type) -> tuple[Field, ...]:
    """Return the fields of a settings class, in order."""
    hints = get_type_hints(settings, include_extras=True)
    help_texts = {p.arg_name: p.description or "" for p in parse_from_object(settings).params}
    described = []
    for field in fields(settings):
        assert field.default is not MISSING, f"{settings.__name__}.{field.name} needs a default"
        hint = hints[field.name]
        help_text = help_texts.get(field.name, "").strip()
        label = _label(hint) or field.name.replace("_", " ")
        described.append(Field(field.name, _kind(hint), field.default, help_text, label))
    return tuple(described)


def _label(hint: Any) -> str:
    """Return the text of the :class:`Label` in an annotation; empty if there is none."""
    extras = get_args(hint)[1:] if get_origin(hint) is Annotated else ()
    return next((extra.text for extra in extras if isinstance(extra, Label)), "")


def _kind(hint: Any) -> Kind:
    """Return the values that the annotation of a field allows."""
    if get_origin(hint) is Annotated:
        plain, *extras = get_args(hint)
        kinds = [extra for extra in extras if isinstance(extra, Kind)]
        return kinds[0] if kinds else _kind(plain)
    if get_origin(hint) is Literal:
        return Choice(get_args(hint))
    assert hint is bool, f"no control for {hint}"
    return Switch()


def from_values(settings: type[S], values: Sequence[Any]) -> S:
    """Return settings from the values of the controls, in the order of the fields.

    Raises:
        InputError: a field does not allow its value.
    """
    pairs = zip(fields_of(settings), values, strict=True)
    return settings(**{field.name: field.read(value) for field, value in pairs})


def to_query(settings: Any) -> str:
    """Return the settings that differ from the defaults as a query: ``"?cell=LSTM&time=20"``."""
    changed = {
        field.name: field.kind.write(getattr(settings, field.name))
        for field in fields_of(type(settings))
        if getattr(settings, field.name) != field.default
    }
    return f"?{urlencode(changed)}" if changed else ""


def from_query(settings: type[S], query: str) -> S:
    """Return the settings in the query of an address.

    Raises:
        InputError: a name is not a field, or a field does not allow its value.
    """
    try:
        texts: Mapping[str, str] = dict(
            parse_qsl(query.removeprefix("?"), keep_blank_values=True, max_num_fields=MOST_SETTINGS)
        )
    except ValueError:
        raise InputError(
            "an address must set only settings of the room",
            got=f"more than {MOST_SETTINGS} settings",
        ) from None
    known = {field.name: field for field in fields_of(settings)}
    for name in texts:
        if name not in known:
            shown_name = name[:LONGEST_NAME]
            close = ", ".join(nearest(shown_name, list(known))[:MOST_SUGGESTIONS])
            raise InputError(
                "an address must set only settings of the room",
                got=shown_name,
                cure=f"perhaps {close}",
            )
    return settings(**{name: known[name].read(text) for name, text in texts.items()})
