"""What can be set in a room: a frozen dataclass, how its fields are shown, and its form in an address.

A field's annotation says what it may be, and its attribute docstring is its help:

    @dataclass(frozen=True)
    class Settings:
        time: Annotated[int, Between(5, 200)] = 50
        \"\"\"Timesteps of the sequence.\"\"\"
        loss: Literal["last", "all"] = "last"
        \"\"\"At which timesteps the loss looks.\"\"\"

``Literal`` is a choice, ``bool`` a switch, and everything else brings a :class:`Kind`: :class:`Between`, :class:`Draw`,
:class:`Text`, or one of your own.
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


class Kind:
    """What a field may be; a subclass reads what a control or an address holds, or raises ``ValueError``."""

    def read(self, given: Any) -> Any:
        """The value that was given by a control or, as text, by an address."""
        raise NotImplementedError

    def write(self, value: Any) -> str:
        """The value's text in an address."""
        return str(value)

    @property
    def rule(self) -> str:
        """What a value has to be, for a message."""
        raise NotImplementedError


@dataclass(frozen=True)
class Between(Kind):
    """A number on a slider; whole where the step is."""

    low: float
    high: float
    step: float = 1

    def read(self, given: Any) -> float:
        """A number in the range, to as many digits as the step has."""
        value = _number(given)
        if not self.low <= value <= self.high:
            raise ValueError
        return int(value) if self.is_whole and value == int(value) else self._rounded(value)

    def _rounded(self, value: float) -> float:
        if self.is_whole:
            raise ValueError
        return round(value, 1 - math.floor(math.log10(self.step))) + 0.0  # so that -0.0 is 0.0

    def write(self, value: float) -> str:
        """Without digits that say nothing."""
        return f"{value:g}"

    @property
    def is_whole(self) -> bool:
        """Whether only whole numbers are meant."""
        return float(self.step).is_integer()

    @property
    def rule(self) -> str:
        """The range."""
        return f"{'a whole number' if self.is_whole else 'a number'} from {self.low:g} to {self.high:g}"


@dataclass(frozen=True)
class Draw(Kind):
    """The seed of something that is drawn, with a button for a new one."""

    button: str
    """What the button says: ``"new sample"``."""

    def read(self, given: Any) -> int:
        """A seed."""
        value = _number(given)
        if not 0 <= value < 2**31 or value != int(value):
            raise ValueError
        return int(value)

    @property
    def rule(self) -> str:
        """Which seeds there are."""
        return "a whole number from 0 to 2147483647"


@dataclass(frozen=True)
class Choice(Kind):
    """One of a few names."""

    names: tuple[str, ...]

    def read(self, given: Any) -> str:
        """One of them."""
        if not isinstance(given, str) or given not in self.names:
            raise ValueError
        return str(given)

    @property
    def rule(self) -> str:
        """All of them."""
        return "one of " + ", ".join(self.names)


@dataclass(frozen=True)
class Switch(Kind):
    """On or off."""

    def read(self, given: Any) -> bool:
        """From a control, or from an address."""
        if isinstance(given, str) and given in ("yes", "no"):
            return given == "yes"
        return checks.flag(given, "it")

    def write(self, value: bool) -> str:
        """A word."""
        return "yes" if value else "no"

    @property
    def rule(self) -> str:
        """Its two words."""
        return "yes or no"


@dataclass(frozen=True)
class Text(Kind):
    """A line of text, or several."""

    longest: int = 200
    rows: int = 1

    def read(self, given: Any) -> str:
        """Text that is not too long."""
        text = plain_text(given)
        if len(text) > self.longest:
            raise ValueError
        return text

    @property
    def rule(self) -> str:
        """How long."""
        return f"text of at most {self.longest} letters"


def plain_text(given: Any) -> str:
    """Text that can be sent and saved: half a surrogate pair is a character of its own in JSON, and in no file."""
    if not isinstance(given, str):
        raise ValueError
    given.encode()
    return str(given)


def _number(given: Any) -> float:
    """A number, or its text in an address; booleans and text of any other form are refused."""
    if isinstance(given, str):
        if not NUMBER.fullmatch(given):
            raise ValueError
        return float(given)
    return checks.number(given, "it")


NUMBER = re.compile(r"\s*[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?\s*", re.ASCII)
"""The text of a number, as a browser's controls and addresses write it."""


@dataclass(frozen=True)
class Field:
    """One field of a settings class."""

    name: str
    kind: Kind
    default: Any
    help: str

    @property
    def label(self) -> str:
        """The name in words."""
        return self.name.replace("_", " ")

    def read(self, given: Any) -> Any:
        """The value, or an :class:`InputError` that names the field."""
        try:
            return self.kind.read(given)
        except (ValueError, TypeError, OverflowError):
            raise InputError(
                f"{self.label} is {self.kind.rule}", got=f"{self.name} = {checks.shown(given)}"
            ) from None


@cache
def fields_of(settings: type) -> tuple[Field, ...]:
    """The fields of a settings class, in order."""
    hints = get_type_hints(settings, include_extras=True)
    told = {p.arg_name: p.description or "" for p in parse_from_object(settings).params}
    found = []
    for field in fields(settings):
        assert field.default is not MISSING, f"{settings.__name__}.{field.name} needs a default"
        found.append(
            Field(
                field.name,
                _kind(hints[field.name]),
                field.default,
                told.get(field.name, "").strip(),
            )
        )
    return tuple(found)


def _kind(hint: Any) -> Kind:
    if get_origin(hint) is Annotated:
        return next(part for part in get_args(hint) if isinstance(part, Kind))
    if get_origin(hint) is Literal:
        return Choice(get_args(hint))
    assert hint is bool, f"no control for {hint}"
    return Switch()


def from_values(settings: type[S], values: Sequence[Any]) -> S:
    """Settings from what the controls hold, in the order of the fields.

    Raises:
        InputError: a value that its field does not allow.
    """
    known = fields_of(settings)
    return settings(
        **{field.name: field.read(value) for field, value in zip(known, values, strict=True)}
    )


def to_query(settings: Any) -> str:
    """What differs from the defaults, as the query of an address: ``"?cell=LSTM&time=20"``; nothing where all agree."""
    changed = {
        field.name: field.kind.write(getattr(settings, field.name))
        for field in fields_of(type(settings))
        if getattr(settings, field.name) != field.default
    }
    return f"?{urlencode(changed)}" if changed else ""


def from_query(settings: type[S], query: str) -> S:
    """Settings from the query of an address.

    Raises:
        InputError: a name that is no field, or a value that its field does not allow.
    """
    try:
        given: Mapping[str, str] = dict(
            parse_qsl(query.removeprefix("?"), keep_blank_values=True, max_num_fields=100)
        )
    except ValueError:
        raise InputError(
            "an address sets what the room has", got="more than 100 settings"
        ) from None
    known = {field.name: field for field in fields_of(settings)}
    for name in given:
        if name not in known:
            close = ", ".join(nearest(name[:50], list(known))[:3])
            raise InputError(
                "an address sets what the room has", got=name[:50], cure=f"there are {close}, …"
            )
    return settings(**{name: known[name].read(text) for name, text in given.items()})
