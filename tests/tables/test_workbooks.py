"""Tables in workbooks, made here from their XML."""

import zipfile
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest

from memorycell.errors import DataError
from memorycell.tables.numbers import read_numbers
from memorycell.tables.table import read_table

pytest.importorskip("fastexcel")

MAIN = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
OFFICE = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
PACKAGE = "http://schemas.openxmlformats.org/package/2006"


def write_workbook(path: Path, sheets: dict[str, list[list]]) -> None:
    """A workbook (ECMA-376) of cells that are text, numbers, or dates at midnight."""
    with zipfile.ZipFile(path, "w") as book:
        overrides = "".join(
            f'<Override PartName="/xl/worksheets/sheet{k}.xml" ContentType="application/vnd.'
            'openxmlformats-officedocument.spreadsheetml.worksheet+xml"/>'
            for k in range(1, len(sheets) + 1)
        )
        book.writestr(
            "[Content_Types].xml",
            f'<Types xmlns="{PACKAGE}/content-types"><Default Extension="rels" ContentType='
            '"application/vnd.openxmlformats-package.relationships+xml"/><Override PartName='
            '"/xl/workbook.xml" ContentType="application/vnd.openxmlformats-officedocument.'
            f'spreadsheetml.sheet.main+xml"/>{overrides}</Types>',
        )
        book.writestr(
            "_rels/.rels",
            f'<Relationships xmlns="{PACKAGE}/relationships"><Relationship Id="r1" Type='
            f'"{OFFICE}/officeDocument" Target="xl/workbook.xml"/></Relationships>',
        )
        names = "".join(
            f'<sheet name="{name}" sheetId="{k}" r:id="r{k}"/>' for k, name in enumerate(sheets, 1)
        )
        book.writestr(
            "xl/workbook.xml",
            f'<workbook xmlns="{MAIN}" xmlns:r="{OFFICE}"><sheets>{names}</sheets></workbook>',
        )
        targets = "".join(
            f'<Relationship Id="r{k}" Type="{OFFICE}/worksheet" Target="worksheets/sheet{k}.xml"/>'
            for k in range(1, len(sheets) + 1)
        )
        targets += f'<Relationship Id="rs" Type="{OFFICE}/styles" Target="styles.xml"/>'
        book.writestr(
            "xl/_rels/workbook.xml.rels",
            f'<Relationships xmlns="{PACKAGE}/relationships">{targets}</Relationships>',
        )
        book.writestr(
            "xl/styles.xml",
            f'<styleSheet xmlns="{MAIN}"><cellXfs><xf numFmtId="0"/><xf numFmtId="22"/></cellXfs>'
            "</styleSheet>",
        )
        for k, rows in enumerate(sheets.values(), 1):
            body = "".join(f"<row>{''.join(map(cell_xml, row))}</row>" for row in rows)
            book.writestr(
                f"xl/worksheets/sheet{k}.xml",
                f'<worksheet xmlns="{MAIN}"><sheetData>{body}</sheetData></worksheet>',
            )


def cell_xml(value) -> str:
    if isinstance(value, str):
        return f'<c t="inlineStr"><is><t>{value}</t></is></c>'
    if isinstance(value, datetime):
        days = (value - datetime(1899, 12, 30)).total_seconds() / 86_400
        return f'<c s="1"><v>{days}</v></c>'
    return f"<c><v>{value}</v></c>"


ODF = "urn:oasis:names:tc:opendocument:xmlns"


def write_opendocument(path: Path, sheets: dict[str, list[list]]) -> None:
    """A workbook of OpenDocument (ISO/IEC 26300), with the empty rows and cells that LibreOffice
    writes up to the ends of a sheet.
    """
    end = '<table:table-cell table:number-columns-repeated="16000"/>'
    tables = "".join(
        f'<table:table table:name="{name}">'
        + "".join(
            f"<table:table-row>{''.join(map(odf_cell, r))}{end}</table:table-row>" for r in rows
        )
        + f'<table:table-row table:number-rows-repeated="1040000">{end}</table:table-row>'
        "</table:table>"
        for name, rows in sheets.items()
    )
    spaces = " ".join(f'xmlns:{n}="{ODF}:{n}:1.0"' for n in ("office", "table", "text"))
    with zipfile.ZipFile(path, "w") as book:
        book.writestr("mimetype", "application/vnd.oasis.opendocument.spreadsheet")
        book.writestr(
            "META-INF/manifest.xml",
            f'<manifest:manifest xmlns:manifest="{ODF}:manifest:1.0"><manifest:file-entry'
            ' manifest:full-path="/" manifest:media-type="application/vnd.oasis.opendocument.'
            'spreadsheet"/></manifest:manifest>',
        )
        book.writestr(
            "content.xml",
            f'<office:document-content {spaces} office:version="1.2"><office:body>'
            f"<office:spreadsheet>{tables}</office:spreadsheet></office:body>"
            "</office:document-content>",
        )


def odf_cell(value) -> str:
    if value is None:
        return "<table:table-cell/>"
    kind, name = "float", "value"
    if isinstance(value, str):
        kind, name = "string", "string-value"
    elif isinstance(value, datetime):
        kind, name, value = "date", "date-value", value.isoformat()
    return (
        f'<table:table-cell office:value-type="{kind}" office:{name}="{value}"><text:p>{value}'
        "</text:p></table:table-cell>"
    )


WRITERS = {".xlsx": write_workbook, ".ods": write_opendocument}
HOURS = [datetime(2024, 1, 1, hour) for hour in range(24)]
READINGS = [["time", "load "], *([time, 1.5 * time.hour] for time in HOURS)]


@pytest.mark.parametrize("suffix", WRITERS)
def test_a_sheet_is_read(tmp_path, suffix):
    WRITERS[suffix](tmp_path / f"t{suffix}", {"Readings": READINGS})
    frame = read_table(tmp_path / f"t{suffix}")
    assert frame.columns == ["time", "load"]
    assert frame.rows() == [(time, 1.5 * time.hour) for time in HOURS]


@pytest.mark.parametrize("suffix", WRITERS)
def test_cells_of_several_kinds_are_text(tmp_path, suffix):
    WRITERS[suffix](tmp_path / f"t{suffix}", {"A": [["x", "y"], [1.5, 1], ["n/a", 2], [2, 3]]})
    frame = read_table(tmp_path / f"t{suffix}")
    np.testing.assert_array_equal(read_numbers(frame["x"], "t"), [1.5, np.nan, 2])


def test_sheets_are_chosen_by_name(tmp_path):
    write_workbook(
        tmp_path / "t.xlsx", {"Cover": [], "Readings": READINGS, "Other": [["x"], [1], [2]]}
    )
    notes: list[str] = []
    assert read_table(tmp_path / "t.xlsx", notes=notes).columns == ["time", "load"]
    assert notes == ["sheet 'Readings' read; not 'Other' (--set sheet=NAME)"]
    assert read_table(tmp_path / "t.xlsx", sheet="Other").columns == ["x"]
    with pytest.raises(DataError, match="no sheet 'Third'; it has Cover, Readings, Other"):
        read_table(tmp_path / "t.xlsx", sheet="Third")


def test_columns_without_a_name_and_without_cells(tmp_path, capfd, caplog):
    rows = [["x", None, "y", None], [1, None, None, 5], [2, None, None, 6]]
    write_opendocument(tmp_path / "t.ods", {"A": rows})
    frame = read_table(tmp_path / "t.ods")
    assert frame["x"].to_list() == [1, 2]
    assert frame["Unnamed: 3"].to_list() == [5, 6]
    assert capfd.readouterr().err == ""
    assert not caplog.records  # of fastexcel, for each empty column


@pytest.mark.parametrize("suffix", WRITERS)
def test_two_columns_of_one_name_are_refused(tmp_path, suffix):
    WRITERS[suffix](tmp_path / f"t{suffix}", {"A": [["x", "y", "x "], [1, 2, 3]]})
    with pytest.raises(DataError, match="columns 1 and 3 are called 'x'; rename one"):
        read_table(tmp_path / f"t{suffix}")


def test_no_workbook(tmp_path):
    (tmp_path / "t.xlsx").write_bytes(b"PK no")
    with pytest.raises(DataError, match="not a readable workbook"):
        read_table(tmp_path / "t.xlsx")
    write_workbook(tmp_path / "t.xlsx", {"A": []})
    with pytest.raises(DataError, match="all sheets are empty"):
        read_table(tmp_path / "t.xlsx")
