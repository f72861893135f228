"""Answers as text, so that those of two engines can be compared digit by digit."""

import datetime
import decimal
import re

TIME = re.compile(r"(\d{4}-\d\d-\d\d)[ T](\d\d:\d\d:\d\d)(\.0+)?")


def text(value):
    """A value as text, the same for all engines. A floating-point number is none that we ask for."""
    match value:
        case None:
            return None
        case bool() | float():
            raise TypeError(f"{value!r} is a {type(value).__name__}")
        case int():
            return str(value)
        case decimal.Decimal():
            return format(value, "f")
        case datetime.datetime():
            assert value.tzinfo is None, f"{value!r} has a time zone"
            return value.isoformat(" ", "microseconds").removesuffix(".000000")
        case str() if time := TIME.fullmatch(value):
            return f"{time[1]} {time[2]}"
        case str():
            return value
    raise TypeError(f"{value!r} is a {type(value).__name__}")


def rows(answer):
    return [[text(value) for value in row] for row in answer]


def totals(answer):
    """The exact sums of docs/lake.md: token, amounts summed, amounts too long, and the total, which some engines give in two parts."""
    found = {}
    for token, summed, too_long, *parts in rows(answer):
        parts = [int(part or 0) for part in parts]
        found[token] = (int(summed), int(too_long), parts[0] if len(parts) == 1 else parts[0] * 10**19 + parts[1])
    return found
