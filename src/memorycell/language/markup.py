"""Parse XML from the world: any encoding that it declares, no entities, no external files."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from memorycell.errors import DataError, UserError, quote
from memorycell.reading import decode_text, normalise

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

_DECLARED = re.compile(rb"\s*<\?xml[^>]{0,200}?encoding\s*=\s*[\"']([A-Za-z0-9._-]{1,40})[\"']")


def parse_xml(data: bytes, where: str, encoding: str | None = None) -> Element:
    """The root element. The encoding is that of a byte order mark or of the XML declaration;
    without either it is `encoding`, by default UTF-8. Raises `DataError`.
    """
    try:
        from defusedxml import DefusedXmlException
        from defusedxml.ElementTree import ParseError, fromstring
    except ModuleNotFoundError:
        raise UserError("reading XML needs defusedxml: pip install defusedxml") from None
    text = decode_text(data, where, _declared_encoding(data) or encoding)
    try:
        root: Element = fromstring(normalise(text).strip())
    except DefusedXmlException as error:
        raise DataError(f"{where}: XML with entities is not read ({_kind(error)})") from None
    except (ParseError, ValueError, RecursionError) as error:
        raise DataError(f"{where}: incomplete or invalid XML ({quote(str(error))})") from None
    return root


def local_name(element: Element) -> str:
    """The name of an element without its namespace; "" for a comment."""
    return element.tag.rsplit("}", 1)[-1] if isinstance(element.tag, str) else ""


def attribute(element: Element, name: str) -> str:
    """The value of an attribute, with or without a namespace; otherwise ""."""
    plain = element.get(name)
    if plain is not None:
        return plain
    return next((v for key, v in element.attrib.items() if key.endswith(f"}}{name}")), "")


def _declared_encoding(data: bytes) -> str | None:
    match = _DECLARED.match(data[:400].removeprefix(b"\xef\xbb\xbf"))
    if match is None:
        return None
    name = match[1].decode("ascii").lower()
    return None if name.replace("_", "-") in ("utf-8", "utf8") else name


def _kind(error: Exception) -> str:
    return type(error).__name__
