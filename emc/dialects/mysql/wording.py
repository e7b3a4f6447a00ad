"""How does the server show what DDL says, as far as that is known without asking it?

What is said here was seen with MariaDB 10.11.19; MySQL's wording is from its manual ("Data Type Default Values",
"Numeric Data Type Syntax"). Whatever is not listed is for the server to say.
"""

from __future__ import annotations

import re

from emc.dialects.mysql.flavour import Flavour

_NUMERIC = re.compile(r"(?:NUMERIC|DECIMAL)(?:\((\d+)(?:, ?(\d+))?\))?(?P<rest>.*)")
_INTEGER = re.compile(r"(?P<name>TINYINT|SMALLINT|MEDIUMINT|INTEGER|BIGINT)\((?P<width>\d+)\)(?P<rest>.*)")
_FLOAT = re.compile(r"FLOAT\((\d+)\)(?P<rest>.*)")
_TYPES = {
    "BOOL": "TINYINT",
    "BOOLEAN": "TINYINT",
    "CHAR": "CHAR(1)",
    "BINARY": "BINARY(1)",
    "BIT": "BIT(1)",
    "YEAR(4)": "YEAR",
    "DOUBLE PRECISION": "DOUBLE",
    # But FLOAT where sql_mode has REAL_AS_FLOAT.
    "REAL": "DOUBLE",
}
_SIZED = re.compile(r"(?P<kind>TEXT|BLOB)\((\d+)\)(?P<rest>.*)")
_SIZES = (("TINY", 0xFF), ("", 0xFFFF), ("MEDIUM", 0xFFFFFF), ("LONG", 0xFFFFFFFF))
_BYTES = {"TEXT": 4, "BLOB": 1}
"""How many bytes a character may take: that of a text in utf8mb4, which is what it is in unless somebody says so."""
_SINGLE = 24
"""Up to how many binary digits a FLOAT has four bytes."""

_NOW = re.compile(r"(?:now|current_timestamp|localtime|localtimestamp)(?:\((\d*)\))?", re.IGNORECASE)
_ON_UPDATE = re.compile(r"(.*\S)\s+on\s+update\s+(\S.*)", re.IGNORECASE | re.DOTALL)
_DECIMAL = re.compile(r"DECIMAL\(\d+, (\d+)\).*")
_DIGITS = re.compile(r"(?P<quote>'?)(?P<whole>-?(?:0|[1-9]\d*))(?:\.(?P<fraction>\d*))?(?P=quote)")
_ASTRAL = re.compile("[\U00010000-\U0010ffff]")
_NUMBERS = ("TINYINT", "SMALLINT", "MEDIUMINT", "INTEGER", "BIGINT", "DECIMAL", "FLOAT", "DOUBLE")


def shown_type(text: str) -> str:
    """The type *text* as a snapshot spells it, without the width in which a number is displayed."""
    if text in _TYPES:
        return _TYPES[text]
    if match := _NUMERIC.fullmatch(text):
        return f"DECIMAL({match[1] or 10}, {match[2] or 0}){match['rest']}"
    if (match := _INTEGER.fullmatch(text)) and "ZEROFILL" not in match["rest"]:
        return f"{match['name']}{match['rest']}"
    if match := _FLOAT.fullmatch(text):
        return f"{'FLOAT' if int(match[1]) <= _SINGLE else 'DOUBLE'}{match['rest']}"
    if match := _SIZED.fullmatch(text):
        length = int(match[2]) * _BYTES[match["kind"]]
        size = next((size for size, most in _SIZES if length <= most), "LONG")
        return f"{size}{match['kind']}{match['rest']}"
    if text.endswith(" ZEROFILL") and " UNSIGNED" not in text:
        return f"{text.removesuffix(' ZEROFILL')} UNSIGNED ZEROFILL"
    # The character set of NATIONAL depends on the version.
    return text.removeprefix("NATIONAL ") if text.startswith("NATIONAL ") else text


def shown_default(text: str, type_text: str, flavour: Flavour) -> str:
    """The default that DDL spells *text*, on a column of type *type_text*, as a snapshot has it."""
    if match := _ON_UPDATE.fullmatch(text):
        return (
            f"{shown_default(match[1], type_text, flavour)} ON UPDATE {_now(match[2], flavour) or match[2]}"
        )
    if text.lower() in ("true", "false") and type_text.startswith(_NUMBERS):
        return str(int(text.lower() == "true"))
    if match := _DECIMAL.fullmatch(type_text):
        return _decimal(text, int(match[1]))
    return _now(text, flavour) or (_literal(text) if text.startswith("'") else text)


def _decimal(text: str, scale: int) -> str:
    """A number as the server shows it: with as many digits behind the point as the column has."""
    match = _DIGITS.fullmatch(text)
    if match is None or len(match["fraction"] or "") > scale:
        return text
    fraction = (match["fraction"] or "").ljust(scale, "0")
    return f"{match['whole']}.{fraction}" if scale else match["whole"]


def _literal(text: str) -> str:
    """A literal as information_schema shows it, which has no characters beyond the Basic Multilingual Plane."""
    escaped = text.replace("\n", "\\n").replace("\r", "\\r").replace("\0", "\\0")
    return _ASTRAL.sub("?", escaped)


def _now(text: str, flavour: Flavour) -> str | None:
    match = _NOW.fullmatch(text.strip())
    if match is None:
        return None
    digits = "" if match[1] in (None, "", "0") else match[1]
    if flavour.quotes_defaults:
        return f"current_timestamp({digits})"
    return f"CURRENT_TIMESTAMP({digits})" if digits else "CURRENT_TIMESTAMP"
