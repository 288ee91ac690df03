"""Strokes as other programs write them: InkML, SVG, Quick, Draw!, IAM-OnDB, odd encodings."""

import json
import math
import zipfile

import numpy as np
import pytest

from memorycell.errors import DataError
from memorycell.signals.stroke_files import read_strokes
from memorycell.signals.svg_path import flatten_path


def one(path):
    (drawing,), _ = read_strokes(path, path.name)
    return drawing


def ink(tmp_path, body: str, attributes: str = 'xmlns="http://www.w3.org/2003/InkML"'):
    path = tmp_path / "a.inkml"
    path.write_text(f"<ink {attributes}>{body}</ink>")
    return one(path)


FORMAT = "<traceFormat>{}</traceFormat>".format
CHANNELS = {name: f'<channel name="{name}" type="decimal"/>' for name in "XYTSF"}


# ---- InkML ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", ["XY", "TXY", "YX", "FYTX", "XYT"])
def test_channels_are_found_by_name(tmp_path, order):
    values = {"X": (1, 3, 6), "Y": (2, 4, 9), "T": (0, 10, 20), "F": (7, 7, 8)}
    points = ", ".join(" ".join(str(values[c][k]) for c in order) for k in range(3))
    drawing = ink(
        tmp_path, FORMAT("".join(CHANNELS[c] for c in order)) + f"<trace>{points}</trace>"
    )
    np.testing.assert_array_equal(drawing.drawing[0], [[1, 2], [3, 4], [6, 9]])


@pytest.mark.parametrize(
    "attributes", ["", 'xmlns="http://www.w3.org/2003/InkML"', 'xmlns="urn:another"']
)
def test_any_namespace_is_read(tmp_path, attributes):
    body = '<annotation type="truth">b</annotation><trace>0 0, 1 5</trace>'
    drawing = ink(tmp_path, body, attributes)
    assert (drawing.label, len(drawing.drawing)) == ("b", 1)
    (tmp_path / "p.inkml").write_text(
        '<i:ink xmlns:i="http://www.w3.org/2003/InkML"><i:trace>0 0, 1 5</i:trace></i:ink>'
    )
    np.testing.assert_array_equal(one(tmp_path / "p.inkml").drawing[0], [[0, 0], [1, 5]])


def test_each_trace_has_the_format_of_its_context(tmp_path):
    body = (
        "<definitions>"
        f'<traceFormat xml:id="ty">{CHANNELS["T"]}{CHANNELS["Y"]}{CHANNELS["X"]}</traceFormat>'
        '<context xml:id="pen" traceFormatRef="#ty"/><context xml:id="again" contextRef="#pen"/>'
        f'<inkSource xml:id="s">{FORMAT(CHANNELS["Y"] + CHANNELS["X"])}</inkSource>'
        '<context xml:id="board" inkSourceRef="#s"/></definitions>'
        f"{FORMAT(CHANNELS['X'] + CHANNELS['Y'])}<trace>1 2, 3 4</trace>"
        '<trace contextRef="#again">9 2 1, 9 4 3</trace>'
        '<traceGroup contextRef="#board"><trace>2 1, 4 3</trace></traceGroup>'
        '<context contextRef="#pen"/><trace>9 2 1, 9 4 3</trace>'
    )
    for stroke in ink(tmp_path, body).drawing:
        np.testing.assert_array_equal(stroke, [[1, 2], [3, 4]])


def test_differences_are_summed(tmp_path):
    """The example of the recommendation, section 3.2.4, and its points by hand."""
    text = "1125 18432,'23'43,\"7\"-8,3-5,7 -3"
    by_hand = [(1125, 18432), (1148, 18475), (1178, 18510), (1211, 18540), (1251, 18567)]
    np.testing.assert_array_equal(ink(tmp_path, f"<trace>{text}</trace>").drawing[0], by_hand)
    text = "10 10,'1'1,2*,!30!40,5 5"
    expected = [(10, 10), (11, 11), (13, 11), (30, 40), (5, 5)]
    np.testing.assert_array_equal(ink(tmp_path, f"<trace>{text}</trace>").drawing[0], expected)
    hexadecimal = ink(tmp_path, "<trace>#A #1F, -#2 3</trace>")
    np.testing.assert_array_equal(hexadecimal.drawing[0], [[10, 31], [-2, 3]])


def test_a_lifted_pen_draws_nothing(tmp_path):
    tip = FORMAT(
        CHANNELS["X"]
        + CHANNELS["Y"]
        + "<intermittentChannels>"
        + CHANNELS["S"]
        + "</intermittentChannels>"
    )
    body = (
        f'{tip}<trace>0 0 T, 1 1 T, 2 2 F, 3 3 T, 4 4</trace><trace type="penUp">9 9, 8 8</trace>'
        '<trace id="a">5 5, 6 6</trace><trace continuation="end" priorRef="#a">7 7</trace>'
    )
    strokes = [s.tolist() for s in ink(tmp_path, body).drawing]
    assert strokes == [[[0, 0], [1, 1]], [[3, 3], [4, 4]], [[5, 5], [6, 6], [7, 7]]]


def test_the_label_is_that_of_the_whole(tmp_path):
    trace = "<trace>0 0, 1 1</trace>"
    truth = '<annotation type="truth">{}</annotation>'.format
    group = "<traceGroup>{}</traceGroup>".format
    writer = '<annotation type="writer">w3</annotation>'
    symbols = group(truth("Segmentation") + group(truth("x")) + group(truth("y")))
    drawing = ink(tmp_path, writer + truth("x+y") + trace + symbols)
    assert (drawing.label, drawing.fields) == ("x+y", {"writer": "w3"})
    assert ink(tmp_path, symbols + truth("x+y") + trace).label == "x+y"
    assert ink(tmp_path, group(truth("whole") + group(truth("part")) + trace)).label == "whole"
    assert ink(tmp_path, group(truth("a")) + group(truth("b")) + trace).label == ""
    assert ink(tmp_path, '<annotation type="Truth">c</annotation>' + trace).label == "c"


@pytest.mark.parametrize("encoding", ["iso-8859-1", "windows-1252", "utf-16", "shift_jis", "utf-8"])
def test_the_declared_encoding_is_used(tmp_path, encoding):
    label = "漢字" if encoding == "shift_jis" else "é"
    text = (
        f'<?xml version="1.0" encoding="{encoding}"?><ink><annotation type="truth">{label}'
        "</annotation><trace>0 0, 1 1</trace></ink>"
    )
    (tmp_path / "e.inkml").write_bytes(text.encode(encoding))
    assert one(tmp_path / "e.inkml").label == label


def test_undeclared_encodings_are_named(tmp_path):
    path = tmp_path / "u.inkml"
    path.write_bytes(b'<ink>\n<annotation type="truth">\xe9</annotation><trace>0 0</trace></ink>')
    with pytest.raises(DataError, match=r"line 2: byte .* \(0xe9\).*encoding=cp1252"):
        read_strokes(path, "u")
    (found,), _ = read_strokes(path, "u", encoding="latin-1")
    assert found.label == "é"


@pytest.mark.parametrize(
    ("body", "what"),
    [
        (FORMAT(CHANNELS["X"] + CHANNELS["T"]) + "<trace>0 1</trace>", "X and Y are needed"),
        ("<trace>0 0, 1</trace>", "trace 1, point 2: '1' are not values"),
        ("<trace>0 0</trace><trace>a b</trace>", "trace 2, point 1: 'a b' are not"),
        ("<trace>0 0, ? 1</trace>", "trace 1, point 2"),
        ("", "contains no points"),
        ("<trace>", "incomplete or invalid XML"),
        ("<trace>1e300 0</trace>", "invalid coordinates"),
    ],
)
def test_invalid_inkml_names_the_trace(tmp_path, body, what):
    with pytest.raises(DataError, match=what) as error:
        ink(tmp_path, body)
    assert len(str(error.value)) < 300
    assert "\n" not in str(error.value)


def test_deeply_nested_files_are_read_or_refused(tmp_path):
    depth = 20_000
    body = "<traceGroup>" * depth + "<trace>0 0, 1 1</trace>" + "</traceGroup>" * depth
    assert len(ink(tmp_path, body).drawing) == 1
    (tmp_path / "d.svg").write_text("<svg>" + "<g>" * depth + "</g>" * depth + "</svg>")
    (tmp_path / "d.jsonl").write_text("[" * 200_000 + "]" * 200_000)
    for name in ("d.svg", "d.jsonl"):
        with pytest.raises(DataError):
            read_strokes(tmp_path / name, name)


# ---- SVG -----------------------------------------------------------------------------------------


def svg(tmp_path, body: str):
    path = tmp_path / "cat" / "a.svg"
    path.parent.mkdir(exist_ok=True)
    path.write_text(f'<svg xmlns="http://www.w3.org/2000/svg">{body}</svg>')
    (drawing,), notes = read_strokes(tmp_path, "set")
    return drawing, notes


def test_lines_and_polygons(tmp_path):
    drawing, notes = svg(
        tmp_path,
        '<path d="M 1 1 L 2 3 4 4 M5,5l1 3z"/><polyline points="0,0 1,1 2-1"/><text>hi</text>'
        '<polygon points="0 0 1 0 1 1"/><line x1="1" y1="2" x2="3px" y2="4"/>'
        '<defs><path d="M0 0 L9 9"/></defs><path style="display: none" d="M0 0 L9 9"/>',
    )
    assert [s.tolist() for s in drawing.drawing] == [
        [[1, 1], [2, 3], [4, 4]],
        [[5, 5], [6, 8], [5, 5]],
        [[0, 0], [1, 1], [2, -1]],
        [[0, 0], [1, 0], [1, 1], [0, 0]],
        [[1, 2], [3, 4]],
    ]
    assert drawing.label == "cat"  # its folder
    assert notes == ["ignored: 1 SVG elements <text>"]
    drawing, _ = svg(tmp_path, '<title>dog</title><path d="M0 0h1v1"/>')
    assert drawing.label == "dog"
    assert drawing.drawing[0].tolist() == [[0, 0], [1, 0], [1, 1]]


def test_transforms_are_nested(tmp_path):
    drawing, _ = svg(
        tmp_path,
        '<g transform="translate(10 20)"><g transform="scale(2,3) rotate(90)">'
        '<path d="M1 0 L2 0"/></g></g><path transform="matrix(0 1 -1 0 5 6)" d="M1 2L3 4"/>'
        '<path transform="rotate(180 1 1) translate(1),skewX(45)" d="M0 1L0 0"/>',
    )
    np.testing.assert_allclose(drawing.drawing[0], [[10, 23], [10, 26]], atol=1e-12)
    np.testing.assert_allclose(drawing.drawing[1], [[3, 7], [1, 9]], atol=1e-12)
    np.testing.assert_allclose(drawing.drawing[2], [[0, 1], [1, 2]], atol=1e-12)


@pytest.mark.parametrize(
    "path",
    [
        '<path transform="rotate(1e999)" d="M0 0L1 1"/>',
        '<path transform="skewX(-1e400)" d="M0 0L1 1"/>',
        '<path d="M0 0L1e999 1"/>',
        '<path d="M0 0A1e999 1 30 0 1 2 2"/>',
        '<path d="M0 0C1 1e999 2 2 3 3"/>',
        '<polyline points="0,0 1e999,1"/>',
    ],
)
def test_numbers_beyond_those_of_a_float_are_refused(tmp_path, path):
    with pytest.raises(DataError):
        svg(tmp_path, path)


def on_curve(points: np.ndarray, curve: np.ndarray) -> float:
    """The largest distance of a point from a densely sampled curve."""
    return max(np.hypot(*(curve - p).T).min() for p in points)


def test_curves_follow_their_equations():
    t = np.linspace(0, 1, 5000)[:, None]
    p = np.array([[0.0, 0], [1, 2], [3, 2], [4, 0], [5, -2], [7, -2], [8, 0]])
    bezier = lambda q: (  # noqa: E731
        (1 - t) ** 3 * q[0] + 3 * t * (1 - t) ** 2 * q[1] + 3 * t**2 * (1 - t) * q[2] + t**3 * q[3]
    )
    smooth = np.concatenate([bezier(p[:4]), bezier(p[3:])])
    for data in ("M0 0C1 2 3 2 4 0S7-2 8 0", "m0 0c1,2 3,2 4,0s3-2 4 0"):
        (stroke,) = flatten_path(data, "x")
        assert on_curve(stroke, smooth) < 2e-3
        assert (
            on_curve(smooth[::50], np.concatenate([stroke, (stroke[1:] + stroke[:-1]) / 2])) < 0.2
        )
    quadratic = (1 - t) ** 2 * p[0] + 2 * t * (1 - t) * p[1] + t**2 * np.array([2.0, 0])
    mirrored = (
        (1 - t) ** 2 * np.array([2.0, 0])
        + 2 * t * (1 - t) * np.array([3.0, -2])
        + (t**2 * np.array([4.0, 0]))
    )
    for data in ("M0 0Q1 2 2 0T4 0", "M0 0q1 2 2 0t2 0"):
        assert on_curve(flatten_path(data, "x")[0], np.concatenate([quadratic, mirrored])) < 2e-3


@pytest.mark.parametrize(("large", "sweep"), [(0, 0), (0, 1), (1, 0), (1, 1)])
def test_arcs_lie_on_their_ellipse(large, sweep):
    (stroke,) = flatten_path(f"M0 0A2 1 30 {large}{sweep}1.5 1", "x")
    angle = math.radians(30)
    turned = stroke @ np.array(
        [[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]]
    )
    unit = turned / [2, 1]
    # The centre of a unit circle through the turned points, from three of them.
    a, b, c = unit[0], unit[len(unit) // 2], unit[-1]
    centre = np.linalg.solve(2 * np.array([b - a, c - a]), [(b @ b - a @ a), (c @ c - a @ a)])
    np.testing.assert_allclose(np.hypot(*(unit - centre).T), 1, atol=1e-9)
    angles = np.unwrap(np.arctan2(*(unit - centre).T[::-1]))
    assert (angles[-1] > angles[0]) == bool(sweep)
    assert (abs(angles[-1] - angles[0]) > math.pi) == bool(large)
    np.testing.assert_allclose(stroke[-1], [1.5, 1])
    (line,) = flatten_path("M0 0A0 1 0 0 0 3 4", "x")
    assert line.tolist() == [[0, 0], [3, 4]]
    (grown,) = flatten_path("M0 0A1 1 0 0 1 6 0", "x")  # too small radii grow to 3
    np.testing.assert_allclose(np.hypot(*(grown - [3, 0]).T), 3)


@pytest.mark.parametrize(
    "data", ["L 1 1", "M 0", "M 0 0 X", "M 0 0 L 1 nan", "M0 0 Z 5 5", "M 0 0 A 1 1 0 2 0 1 1"]
)
def test_incomplete_path_data_are_refused(data):
    with pytest.raises(DataError, match="x: path data that cannot be read at '"):
        flatten_path(data, "x")


def test_invalid_svg(tmp_path):
    for body in (
        '<path d="M0 0 L"/>',
        '<polyline points="1 2 3"/>',
        '<g transform="spin(3)"><path d="M0 0L1 1"/></g>',
        '<line x1="one"/>',
        '<path d="M0 0L1e20 1"/>',
        "<text>only text</text>",
    ):
        with pytest.raises(DataError) as error:
            svg(tmp_path, body)
        assert "a.svg" in str(error.value)
    (tmp_path / "doctype.svg").write_text(
        '<!DOCTYPE svg PUBLIC "-//W3C//DTD SVG 1.1//EN" "http://example.invalid/svg11.dtd">'
        '<svg><path d="M0 0L1 1"/></svg>'
    )
    assert len(one(tmp_path / "doctype.svg").drawing) == 1


# ---- JSON, Quick, Draw! --------------------------------------------------------------------------


def test_quick_draw_lines(tmp_path):
    path = tmp_path / "cat.ndjson"
    rows = [
        {"word": "cat", "countrycode": "DE", "recognized": True, "drawing": [[[0, 9], [5, 6]]]},
        {"word": "cat", "recognized": False, "drawing": [[[1.5, 2], [3, 4], [0, 17]], [[7], [8]]]},
    ]
    path.write_text("\n".join(map(json.dumps, rows)) + "\n")
    found, notes = read_strokes(path, "q")
    assert not notes
    assert [[s.tolist() for s in d.drawing] for d in found] == [
        [[[0, 5], [9, 6]]],
        [[[1.5, 3], [2, 4]], [[7, 8]]],
    ]
    assert [d.label for d in found] == ["cat", "cat"]
    assert [d.fields["recognized"] for d in found] == ["true", "false"]
    path.write_text('{"word": "cat", "drawing": [[[0, 1, 2], [5, 6]]]}\n')
    with pytest.raises(DataError, match="line 1: expected JSON"):
        read_strokes(path, "q")


def test_byte_order_marks_lists_and_numbers(tmp_path):
    row = '{"label": "é", "strokes": [[[0, 1], [4, 5]]]}'
    for name, data in {
        "a.jsonl": row.encode("utf-8-sig") + b"\r\n",
        "b.jsonl": row.encode("utf-16"),
        "c.json": f"[{row},\n {row}]".encode(),
    }.items():
        (tmp_path / name).write_bytes(data)
        found, _ = read_strokes(tmp_path / name, name)
        assert found[0].label == "é"
        assert len(found) == (2 if name == "c.json" else 1)
    for strokes in ('[["12", "34"]]', "[[[true, 1]]]", '[[["1", 2]]]', "[[[1e999, 2]]]", "[[7]]"):
        (tmp_path / "n.jsonl").write_text(f'{{"label": "a", "strokes": {strokes}}}\n')
        with pytest.raises(DataError, match="line 1"):
            read_strokes(tmp_path / "n.jsonl", "n")


# ---- IAM-OnDB ------------------------------------------------------------------------------------

SESSION = """<?xml version="1.0" encoding="ISO-8859-1"?><WhiteboardCaptureSession>{}
<StrokeSet><Stroke colour="black" start_time="0" end_time="2"><Point x="3" y="4" time="0"/>
<Point x="5" y="9" time="1"/></Stroke><Stroke><Point x="7" y="7" time="3"/></Stroke></StrokeSet>
</WhiteboardCaptureSession>"""


def test_iam_lines_find_their_transcripts(tmp_path):
    with zipfile.ZipFile(tmp_path / "iam.zip", "w") as archive:
        for line in (1, 2, 3):
            name = f"lineStrokes/a01/a01-000/a01-000u-0{line}.xml"
            archive.writestr(name, SESSION.format(""))
        archive.writestr(
            "ascii/a01/a01-000/a01-000u.txt",
            "OCR:\n\nno\nno\n\nCSR:\n\nA MOVE to stop\nMr. Gaitskell\n",
        )
        archive.writestr("README.txt", "words\n")
    found, notes = read_strokes(tmp_path / "iam.zip", "iam")
    assert [d.label for d in found] == ["A MOVE to stop", "Mr. Gaitskell", ""]
    assert [s.tolist() for s in found[0].drawing] == [[[3, 4], [5, 9]], [[7, 7]]]
    assert notes == ["ignored: 1 text files without strokes"]
    text = '<Form writerID="10001"/><TextLine text="&amp;quot;Stop"/><TextLine text="it"/>'
    (tmp_path / "a.xml").write_text(SESSION.format(text))
    assert (one(tmp_path / "a.xml").label, one(tmp_path / "a.xml").fields) == (
        '"Stop it',
        {"writer": "10001"},
    )
    (tmp_path / "b.xml").write_text(SESSION.format("").replace('x="3"', ""))
    with pytest.raises(DataError, match="b.xml: a <Point> without numbers"):
        read_strokes(tmp_path / "b.xml", "b")
    (tmp_path / "c.xml").write_text("<html/>")
    with pytest.raises(DataError, match="XML of the kind <html>; expected <ink>"):
        read_strokes(tmp_path / "c.xml", "c")


# ---- archives ------------------------------------------------------------------------------------


def test_what_an_archive_loses_is_said(tmp_path):
    row = '{"label": "a", "strokes": [[[0, 1], [4, 5]]]}\n'
    path = tmp_path / "s.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("good.jsonl", row * 30)
        archive.writestr("bad\n\x1b[31m.jsonl", "{}\n")
    found, notes = read_strokes(path, "s")
    assert len(found) == 30
    assert notes[0].startswith("1 of 31 drawings left out: damaged (the first: 'bad\\n\\x1b[31m")
    damaged = bytearray(path.read_bytes())
    at = damaged.index(b"good.jsonl") + len("good.jsonl")
    damaged[at + 2 : at + 12] = bytes(10)
    path.write_bytes(damaged)
    with pytest.raises(DataError) as error:
        read_strokes(path, "s")
    assert len(str(error.value)) < 300
    assert str(error.value).isprintable()


# ---- comments ------------------------------------------------------------------------------------


def test_comments_in_json_lines_are_counted_and_drawings_are_not_dropped(tmp_path):
    path = tmp_path / "a.jsonl"
    line = json.dumps({"strokes": [[[0, 0], [1, 2]]], "label": "a"})
    path.write_text("\n".join(["# 30 drawings", *[line] * 30, "#drawn by hand"]))
    drawings, notes = read_strokes(path, "a")
    assert len(drawings) == 30
    assert notes == ["ignored: 2 lines that begin with #"]
    path.write_text("\n".join([*[line] * 30, f"# {line}", f"#{line}"]))
    with pytest.raises(DataError, match="2 of 32 drawings would be left out .damaged"):
        read_strokes(path, "a")
    assert len(read_strokes(path, "a", lossy=True)[0]) == 30
