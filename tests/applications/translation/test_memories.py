"""Translation memories (TMX)."""

import gzip

import pytest

from memorycell.applications.translation.cleaning import ReadOptions
from memorycell.applications.translation.pairs import read_pairs
from memorycell.errors import DataError

PAIRS = [(f"the {k} cats & dogs sleep", f"les {k} chats & chiens dorment") for k in range(20)]


def escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;")


def unit(**segments: str) -> str:
    variants = (
        f'<tuv xml:lang="{k.replace("_", "-")}"><seg>{s}</seg></tuv>' for k, s in segments.items()
    )
    return f"<tu>{''.join(variants)}</tu>"


def memory(*units: str, source: str = "en-US", encoding: str = "UTF-8") -> str:
    return (
        f'<?xml version="1.0" encoding="{encoding}"?>\n<!DOCTYPE tmx SYSTEM "tmx14.dtd">\n'
        f'<tmx version="1.4"><header srclang="{source}" segtype="sentence"/>'
        f"<body>{''.join(units)}</body></tmx>"
    )


UNITS = [unit(en_US=escaped(a), FR=escaped(b)) for a, b in PAIRS]


def read(tmp_path, content: str | bytes, name="m.tmx", **options):
    (tmp_path / name).write_bytes(content.encode() if isinstance(content, str) else content)
    splits, notes = read_pairs(tmp_path / name, name, ReadOptions(**options))
    return splits["all"], notes


@pytest.mark.parametrize("encoding", ["UTF-8", "UTF-16", "ISO-8859-1"])
def test_a_memory_in_any_encoding(tmp_path, encoding):
    units = [*UNITS, unit(en_US="the summer", FR="l'été")]
    found, notes = read(tmp_path, memory(*units, encoding=encoding).encode(encoding))
    assert found == [*PAIRS, ("the summer", "l'été")]
    assert notes == ["m.tmx: from en-us to fr; the other direction: --set languages=fr,en-us"]


def test_a_packed_memory(tmp_path):
    packed = gzip.compress(memory(*UNITS).encode())
    assert read(tmp_path, packed, "m.tmx.gz")[0] == PAIRS


def test_the_direction(tmp_path):
    reversed_pairs = [(b, a) for a, b in PAIRS]
    assert read(tmp_path, memory(*UNITS, source="fr-FR"))[0] == reversed_pairs
    assert read(tmp_path, memory(*UNITS), languages=("french", "en"))[0] == reversed_pairs
    assert read(tmp_path, memory(*UNITS, source="*all*"))[0] == PAIRS
    with pytest.raises(DataError, match="which language is 'de'. It has en-us .20., fr .20."):
        read(tmp_path, memory(*UNITS), languages=("en", "de"))


def test_a_third_language_is_not_read(tmp_path):
    units = [*UNITS, unit(en_US="a new cat", FR="un nouveau chat", de="eine neue Katze")]
    found, notes = read(tmp_path, memory(*units))
    assert found == [*PAIRS, ("a new cat", "un nouveau chat")]
    assert notes[0].endswith("; not read: de")


def test_codes_of_the_document_are_no_text(tmp_path):
    bold = '<bpt i="1" type="bold">&lt;b><sub>title</sub></bpt>old<ept i="1">&lt;/b></ept>'
    segment = f'the {bold} <hi>grey</hi><ph x="1"/> cat<it pos="begin">&lt;i></it>\n  sleeps'
    found, _ = read(tmp_path, memory(*UNITS, unit(en_US=segment, FR="le chat")))
    assert found[-1] == ("the old grey cat sleeps", "le chat")


def test_units_without_a_language_are_counted(tmp_path):
    found, notes = read(tmp_path, memory(*UNITS, unit(en_US="only English")))
    assert found == PAIRS
    assert "m.tmx: 1 of 21 units left out: without en-us or fr" in notes
    with pytest.raises(DataError, match="2 of 22 units would be left out .without en-us or fr"):
        read(tmp_path, memory(*UNITS, unit(en_US="one"), unit(en_US="two")))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("<tmx>", "incomplete or invalid XML"),
        ("<ink/>", "XML of the kind <ink>, expected <tmx>"),
        (memory(), "expected units in two languages, found none"),
        (memory(unit(en="a")), "expected units in two languages, found en .1."),
        ('<!DOCTYPE t [<!ENTITY e "x">]><tmx><body/></tmx>', "XML with entities is not read"),
        (memory(*UNITS).encode("utf-16"), "is not utf-16|UTF-8|incomplete"),
    ],
)
def test_what_is_no_memory(tmp_path, content, words):
    if isinstance(content, bytes):
        content = content[:-1]
    with pytest.raises(DataError, match=words) as caught:
        read(tmp_path, content)
    assert "\n" not in str(caught.value)


def test_deeply_nested_elements(tmp_path):
    depth = 20_000
    segment = "<hi>" * depth + "deep" + "</hi>" * depth
    found, _ = read(tmp_path, memory(*UNITS, unit(en_US=f"the cat {segment}", FR="le chat")))
    assert found[-1] == ("the cat", "le chat")
