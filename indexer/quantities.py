"""Amounts as people write them: 10s, 1h30m, 36M, 512MiB, 20%. A value from the job file goes in, one plain number comes out.

Every function raises ValueError, with a sentence that shows the value and says what to write. The `_TEXT` patterns say which
texts are understood; they are plain enough for JSON Schema.
"""

from __future__ import annotations

import json
import math
import re
from decimal import Decimal

_AMOUNT = r"[0-9]{1,12}(\.[0-9]{1,9})?"

DURATION_TEXT = f"(?=[0-9])({_AMOUNT}d)?({_AMOUNT}h)?({_AMOUNT}m)?({_AMOUNT}s)?({_AMOUNT}ms)?"
PIXELS_TEXT = f"{_AMOUNT}[kKMG]?"
SIZE_TEXT = f"{_AMOUNT}[kKMG]i?B?"
WHOLE_TEXT = "0|[1-9][0-9]{0,11}"
NUMBER_TEXT = r"-?[0-9]{1,12}(\.[0-9]{1,18})?([eE][-+]?[0-9]{1,2})?"
SHARE_TEXT = f"{NUMBER_TEXT}|{_AMOUNT}%"

_SECONDS = {"d": Decimal(86_400), "h": Decimal(3_600), "m": Decimal(60), "s": Decimal(1), "ms": Decimal("0.001")}
_POWER = {"": 0, "k": 1, "K": 1, "M": 2, "G": 3}
"""Of 1000, or of 1024."""
_CLOCK = re.compile(r"[0-9]+(:[0-9]{2})+")


def duration_seconds(value: object, *, least: str, most: str) -> float:
    """Seconds in a text like 500ms, 10s, 1h30m or 1.5h; units d, h, m, s, ms in this order, no spaces.

    A number alone is refused: nobody can see its unit. `least` and `most` are durations too.
    """
    seconds = _duration(value)
    if not _duration(least) <= seconds <= _duration(most):
        raise _out_of_range(value, least, most)
    return float(seconds)


def pixels(value: object, *, least: str, most: str) -> int:
    """Number of pixels in a text like 36M, 8.3M or 500k (k thousands, M millions, G billions), or a plain whole number."""
    count = _pixels(value)
    if not _pixels(least) <= count <= _pixels(most):
        raise _out_of_range(value, least, most)
    return int(count)


def size_bytes(value: object, *, least: str, most: str) -> int:
    """Bytes in a text like 512M or 2GB (powers of 1000), or 512MiB or 2Gi (powers of 1024). A number alone is refused."""
    size = _size(value)
    if not _size(least) <= size <= _size(most):
        raise _out_of_range(value, least, most)
    return int(size)


def share(value: object, *, zero: bool = True) -> float:
    """A part of the whole, 0 to 1, written as 0.2 or 20%. `zero` says whether 0 is allowed."""
    percent = isinstance(value, str) and value.endswith("%") and re.fullmatch(SHARE_TEXT, value)
    amount = Decimal(str(value)[:-1]) / 100 if percent else _number(value)
    if amount is None or not 0 <= amount <= 1:
        raise ValueError(f"{shown(value)} is not a share from 0 to 1; write for example 0.2 or 20%")
    if amount == 0 and not zero:
        raise ValueError(f"{shown(value)} is too small: the share must be more than 0")
    return float(amount)


def whole_number(value: object, *, least: int, most: int) -> int:
    """A whole number, written with or without quotes."""
    is_whole = re.fullmatch(WHOLE_TEXT, value) if isinstance(value, str) else True
    number = _number(value)
    if number is None or number % 1 or not is_whole:
        raise ValueError(f"{shown(value)} is not a whole number; write for example {max(least, 1)}")
    if not least <= number <= most:
        raise _out_of_range(value, str(least), str(most))
    return int(number)


def number(value: object, *, least: float, most: float) -> float:
    """A number, written with or without quotes."""
    amount = _number(value)
    if amount is None:
        raise ValueError(f"{shown(value)} is not a number")
    if not least <= amount <= most:
        raise _out_of_range(value, f"{least:g}", f"{most:g}")
    return float(amount)


def shown(value: object) -> str:
    """The value as it is quoted in a message: one line, not too long."""
    if isinstance(value, (list, tuple)):
        return "a list"
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, str) and len(value) > 80:
        value = value[:77] + "..."
    return json.dumps(value, ensure_ascii=False, default=str)


def _duration(value: object) -> Decimal:
    if isinstance(value, str) and re.fullmatch(DURATION_TEXT, value):
        terms = re.findall(r"([0-9.]+)(ms|[dhms])", value)
        return sum((Decimal(amount) * _SECONDS[unit] for amount, unit in terms), Decimal())
    if re.fullmatch(_AMOUNT, str(value)):
        raise ValueError(f"{shown(value)} has no unit; write {value}s for seconds, {value}m for minutes")
    if isinstance(value, str) and _CLOCK.fullmatch(value):
        # YAML 1.1 reads 1:30 as a number in base 60, YAML 1.2 as a text; people mean either minutes or hours.
        raise ValueError(f"{shown(value)} is not a duration (some YAML reads it as a number); write 1m30s or 1h30m")
    raise ValueError(f"{shown(value)} is not a duration; write for example 10s, 2m or 1h30m")


def _pixels(value: object) -> Decimal:
    if isinstance(value, str) and re.fullmatch(PIXELS_TEXT, value):
        return Decimal(value.rstrip("kKMG")) * Decimal(1000) ** _POWER[value.lstrip("0123456789.")]
    count = _number(value)
    if count is None or isinstance(value, str) or count % 1:
        raise ValueError(f"{shown(value)} is not a number of pixels; write for example 36M or 500k")
    return count


def _size(value: object) -> Decimal:
    if isinstance(value, str) and re.fullmatch(SIZE_TEXT, value):
        unit = value.lstrip("0123456789.")
        return Decimal(value.removesuffix(unit)) * Decimal(1024 if "i" in unit else 1000) ** _POWER[unit[0]]
    if re.fullmatch(_AMOUNT, str(value)):
        raise ValueError(f"{shown(value)} has no unit; write for example {value}M or {value}MiB")
    raise ValueError(f"{shown(value)} is not a size; write for example 512M, 2G or 512MiB")


def _number(value: object) -> Decimal | None:
    """The finite number that the value is or spells, else None. Exact: 0.1 stays 0.1."""
    if isinstance(value, int) and not isinstance(value, bool):
        return Decimal(value)
    if isinstance(value, float) and math.isfinite(value):
        return Decimal(str(value))
    return Decimal(value) if isinstance(value, str) and re.fullmatch(NUMBER_TEXT, value) else None


def _out_of_range(value: object, least: str, most: str) -> ValueError:
    return ValueError(f"{shown(value)} is out of range; allowed: {least} to {most}")
