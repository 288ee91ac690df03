"""Names from files reach generated C, HTML, SVG, MusicXML, ONNX and the terminal as text only.

Every string in a model file's description is replaced by a hostile one where the file still loads,
and the same strings in the data. Whatever is then written has the structure that it has with
harmless names.
"""

import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import tiny_models
from containers import note_of, with_note

from memorycell.application import modelfile
from memorycell.application.report import evaluation_page
from memorycell.errors import UserError
from memorycell.exchange import files
from memorycell.inspection import page
from memorycell.inspection.page import Section, figure, figure_json, markup_text
from memorycell.inspection.report import inspection_page
from memorycell.training.loop import compare

HOSTILE = (
    "*/ __attribute__((constructor)) void f{}(void) {{}} /*",
    "</script><script>alert({})</script>",
    "<b onmouseover='alert({})'>x</b><a href='javascript:0'>y",
    '"\' onload="alert({})" x=\'',
    "<!--{}-->]]>&amp;&#60;<![CDATA[",
    "a*/b{} ??/\n#define x \\",
    "\x1b[31m\u202e{}\u2028\x85\x07",
    "[bold]{}[/] [/red] :smile: %{{x}} $name",
    "a\n\n#include </etc/passwd>\n{}",
    "W\u00e4rme \u6e29\u5ea6 {}",
)


MAPPINGS = ("own", "static", "categories")
"""Fields of codecs that hold names as keys."""


def hostile(number: int) -> str:
    """A distinct hostile name."""
    return HOSTILE[number % len(HOSTILE)].format(number)


def strings(value, found: dict[str, None], names: bool = False) -> dict[str, None]:
    """All strings in JSON values, in order; `names`: the keys of the outermost objects too."""
    if isinstance(value, str):
        found[value] = None
    elif isinstance(value, list):
        for item in value:
            strings(item, found)
    elif isinstance(value, dict):
        for key, item in value.items():
            if names:
                found[key] = None
            strings(item, found, key in MAPPINGS)
    return found


def renamed(value, names, keys: bool = False):
    """JSON values with strings replaced, and with the keys of `MAPPINGS`."""
    if isinstance(value, str):
        return names.get(value, value)
    if isinstance(value, list):
        return [renamed(item, names) for item in value]
    if isinstance(value, dict):
        return {
            names.get(key, key) if keys else key: renamed(item, names, key in MAPPINGS)
            for key, item in value.items()
        }
    return value


def loads(raw: bytes) -> bool:
    """Whether the bytes are a model file."""
    try:
        modelfile.from_bytes(raw)
    except UserError:
        return False
    return True


def accepted_names(raw: bytes, spaces: bool = True) -> dict[str, str]:
    """The strings of the codec and of the notes that may be anything -> a hostile name."""
    note = note_of(raw)
    info = {key: note["info"][key] for key in ("data", "notes") if key in note["info"]}
    names: dict[str, str] = {}
    found = strings([note["codec"], info], {})
    for number, string in enumerate(found):
        if re.fullmatch(r"<\w+>|%[YmdHMSTZz:%-]+", string):
            continue  # special tokens and patterns of times have a meaning
        for attempt in range(2):  # some names have a length
            new = hostile(number) if attempt == 0 else "<&\x1b'"[number % 4]
            new = new if spaces else re.sub(r"\s", "", new)
            trial = {**names, string: new}
            if new not in names.values() and loads(with_note(raw, renamed(note, trial))):
                names = trial
                break
    return names


@pytest.fixture(autouse=True)
def no_plotly_script(monkeypatch):
    monkeypatch.setattr(page, "_plotly_script", lambda: "")


class Structure(HTMLParser):
    """The distinct paths of elements with the names of their attributes, and the scripts."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.paths: set[tuple[str, ...]] = set()
        self.scripts: list[str] = []
        self.open: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        """Add the path of an element."""
        self.open.append(tag)
        self.paths.add((*self.open, *sorted(name for name, _ in attrs)))
        if tag in ("meta", "br"):
            self.open.pop()
        if tag == "script":
            self.scripts.append("")

    def handle_endtag(self, tag):
        """Leave an element; pages close what they open."""
        assert self.open.pop() == tag

    def handle_data(self, data):
        """Collect the scripts."""
        if self.open and self.open[-1] == "script":
            self.scripts[-1] += data

    def handle_comment(self, data):
        """Pages have no comments."""
        raise AssertionError(f"a comment: {data}")


def every_element() -> str:
    """A page with all that pages consist of."""
    section = Section("a", "b", figure(), [["c", "d"], ["e", "f"]], "e", [("g", 1.0)])
    return page.page("h", "i", [section], ["j"])


def labels(value, key=""):
    """The strings of a figure that plotly may read as markup."""
    if isinstance(value, str) and key not in page.TEMPLATES:
        yield value
    for name, item in value.items() if isinstance(value, dict) else ():
        yield from labels(item, name)
    for item in value if isinstance(value, list) else ():
        yield from labels(item, key)


def tokens(source: str) -> str:
    """C without comments and line ends."""
    return re.sub(r"\s+", " ", re.sub(r"/\*.*?\*/", " ", source, flags=re.DOTALL))


def written(tiny, folder: Path) -> dict[str, str | bytes]:
    """Everything that is written about a model, by file name."""
    application, file = tiny.application, tiny.file
    record = application.predict(file, tiny.source, application.predict_options(**tiny.options))
    outputs: dict[str, str | bytes] = {"terminal": application.render(record)}
    for suffix, draw in application.figures.items():
        outputs[f"predict{suffix}"] = draw(file, record)
    source = tiny.source if application.inspect_reads is None else None
    outputs["inspect.html"] = inspection_page(application.inspect(file, source))
    dataset = application.reopen(str(tiny.data), file)
    result = compare(application, dataset, file.model, file="m.safetensors", seconds=0)
    report = application.report or (lambda file, data, result: evaluation_page(file, result))
    outputs["report.html"] = report(file, str(tiny.data), result)
    outputs["details"] = "\n".join(application.render_details(result))
    for exporter in application.exporters.values():
        try:
            exporter.check(file)
        except UserError:
            continue
        outputs |= exporter.write(file, "net", precision="float32", test=None).files
    return outputs


def check(ours: dict[str, str | bytes], plain: dict[str, str | bytes], folder: Path) -> None:
    """The outputs have the structure of those with harmless names."""
    assert ours.keys() == plain.keys()
    for name, text in ours.items():
        if name.endswith(".html"):
            assert isinstance(text, str)
            found, expected = Structure(text), Structure(plain[name])
            allowed = expected.paths | Structure(every_element()).paths
            assert found.paths <= allowed, (name, found.paths - allowed)
            assert len(found.scripts) == 2 + text.count('class="figure"')
            for script in found.scripts[1:-1]:
                shown = json.loads(script)
                assert not [s for s in labels(shown) if "<" in s or "\u2028" in s], name
            assert found.scripts[-1] == expected.scripts[-1]
        elif name.endswith((".svg", ".musicxml")):
            tags = [e.tag for e in ElementTree.fromstring(text).iter()]
            assert tags == [e.tag for e in ElementTree.fromstring(plain[name]).iter()]
        elif name.endswith((".c", ".h")):
            assert tokens(text) == tokens(plain[name]), name
        elif name.endswith(".onnx"):
            onnx = pytest.importorskip("onnx")
            net, other = onnx.load_from_string(text), onnx.load_from_string(plain[name])
            onnx.checker.check_model(net)
            del net.metadata_props[:], other.metadata_props[:]
            assert net == other
    if "net.c" in ours and shutil.which("gcc"):
        files.write({n: t for n, t in ours.items() if n.startswith("net")}, folder)
        for source in ("net.c", "net_test.c"):
            subprocess.run(
                ["gcc", "-std=c99", "-Wall", "-Wextra", "-Werror", "-fsyntax-only", source],
                cwd=folder,
                check=True,
            )


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # of the scores of untrained models
@pytest.mark.parametrize("kind", tiny_models.KINDS)
def test_hostile_names_in_every_field(kind, tmp_path):
    plain = tiny_models.build(kind, tmp_path / "plain")
    expected = written(plain, tmp_path)
    raw = plain.file.to_bytes()
    names = accepted_names(raw, spaces=kind != "drawing")
    assert names
    tiny = tiny_models.build(kind, tmp_path / "hostile", names)
    note = renamed(note_of(raw), {**names, str(plain.data): str(tiny.data)})
    tiny.file = modelfile.from_bytes(with_note(raw, note))
    check(written(tiny, tmp_path), expected, tmp_path / "c")


def test_text_in_markup():
    text = "<&>\"'\x00\x1b\ud800\ufffe\u2028é\t\n"
    element = ElementTree.fromstring(f'<a b="{markup_text(text)}">{markup_text(text)}</a>')
    assert element.text == "<&>\"'\ufffd\ufffd\ufffd\ufffd\u2028é\t\n"


def test_labels_of_figures_are_text():
    fig = figure()
    fig.add_scatter(x=["<b>a</b>"], y=[1], name="&lt;</script>\u2028", hovertemplate="%{x}<extra>")
    text = page.page("t", "", [Section("s", figure=fig)])
    (data,) = Structure(text).scripts[1:-1]
    trace = json.loads(data)["data"][0]
    assert (trace["x"], trace["name"]) == (
        ["&lt;b&gt;a&lt;/b&gt;"],
        "&amp;lt;&lt;/script&gt;\u2028",
    )
    assert trace["hovertemplate"] == "%{x}<extra>"
    assert figure_json(fig).isascii()
    assert np.isfinite(trace["y"]).all()
