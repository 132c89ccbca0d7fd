"""Every file format gives the same rows; what is wrong with a file is said with its place."""

import csv
import gzip
import io
import json

import pyarrow as pa
import pyarrow.parquet
import pytest

from ptft.data import formats, reading
from ptft.data.reading import input_rows, rows
from ptft.errors import DataError

ROWS = [
    {"label": "pos", "text": 'she said "hi",\tand\nleft'},
    {"label": "neg", "text": "plain; é 中文"},
    {"label": "neg", "text": ""},
]


def delimited(delimiter):
    stream = io.StringIO(newline="")
    writer = csv.DictWriter(stream, ["label", "text"], delimiter=delimiter)
    writer.writeheader()
    writer.writerows(ROWS)
    return stream.getvalue().encode()


def arrow(open_writer):
    sink, table = pa.BufferOutputStream(), pa.Table.from_pylist(ROWS)
    with open_writer(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue().to_pybytes()


def parquet():
    sink = pa.BufferOutputStream()
    pyarrow.parquet.write_table(pa.Table.from_pylist(ROWS), sink)
    return sink.getvalue().to_pybytes()


FILES = {
    "rows.csv": delimited(","),
    "semicolons.csv": delimited(";"),
    "rows.tsv": delimited("\t"),
    "mark.csv": b"\xef\xbb\xbf" + delimited(","),
    "rows.jsonl": "\n".join(map(json.dumps, ROWS)).encode(),
    "blank_lines.ndjson": "\n\n".join(map(json.dumps, ROWS)).encode(),
    "lines.json": "\n".join(map(json.dumps, ROWS)).encode(),
    "rows.json": json.dumps(ROWS, indent=1).encode(),
    "wrapped.json": json.dumps({"version": "1", "data": ROWS}, indent=1).encode(),
    "rows.parquet": parquet(),
    "rows.arrow": arrow(pa.ipc.new_file),
    "stream.arrow": arrow(pa.ipc.new_stream),
    "parquet_by_content.csv": parquet(),
    "jsonl_without_a_name": "\n".join(map(json.dumps, ROWS)).encode(),
}


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("packing", ["plain", "gzip", "zstandard", "gzip without .gz"])
def test_each_format_gives_the_same_rows(name, packing, tmp_path):
    content, path = FILES[name], tmp_path / name
    if packing.startswith("gzip"):
        content = gzip.compress(content)
        path = path if packing != "gzip" else tmp_path / f"{name}.gz"
    elif packing == "zstandard":
        content, path = zstandard(content), tmp_path / f"{name}.zst"
    path.write_bytes(content)
    assert [row for _, row in rows(path)] == ROWS


def zstandard(content):
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "zstd") as stream:
        stream.write(content)
    return sink.getvalue().to_pybytes()


def test_quote_marks_of_plain_tsv_are_letters(tmp_path):
    path = tmp_path / "rows.tsv"
    path.write_text('label\ttext\na\t"quoted" start\nb\t"open\n', encoding="utf-8")
    assert [row["text"] for _, row in rows(path)] == ['"quoted" start', '"open']


def test_a_txt_file_with_columns_is_a_table_where_columns_are_wanted(tmp_path):
    path = tmp_path / "rows.txt"
    path.write_text("label\ttext\na\tone\nb\ttwo\n", encoding="utf-8")
    assert [row["text"] for _, row in rows(path)] == ["one", "two"]


WRONG = {
    "bad row of jsonl": ("a.jsonl", b'{"text": "x"}\n{"text": \n', r"a\.jsonl:2: not JSON"),
    "list in jsonl": ("a.jsonl", b'{"text": "x"}\n[1]\n', r"a\.jsonl:2: holds a list, expected an object"),
    "deep nesting": ("a.jsonl", b'{"text": ' + b"[" * 200000 + b"\n", r"a\.jsonl:1: not JSON"),
    "bad UTF-8": ("a.jsonl", b'{"text": "x"}\n{"text": "\xff"}\n', r"a\.jsonl:2: not UTF-8 \(byte 0xff, column 11\)"),
    "UTF-16": ("a.csv", "text,label\nx,y\n".encode("utf-16"), r"a\.csv:1: not UTF-8.*looks like UTF-16"),
    "short row of csv": ("a.csv", b'text,label\n"x\ny",1\nz\n', r"a\.csv:4: 1 cells, expected 2 .*\(text, label\)"),
    "open quote": ("a.csv", b'text,label\nx,1\n"y,2\n', r"a\.csv:3: not a table"),
    "column twice": ("a.csv", b"text,text\nx,1\n", r"a\.csv:1: column 'text' appears twice"),
    "cut gzip": ("a.csv.gz", gzip.compress(b"text,label\n" + b"x,1\n" * 9000)[:-20], r"a\.csv\.gz: damaged"),
    "cut parquet": ("a.parquet", FILES["rows.parquet"][:-50], r"a\.parquet: damaged"),
    "cut arrow": ("a.arrow", FILES["rows.arrow"][:300], r"a\.arrow: damaged"),
    "plain text": ("a.txt", b"just\nlines\n", r"a\.txt: plain text without columns"),
    "number in json": ("a.json", b"[1]", r"a\.json: row 1 holds a number"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_broken_file_is_refused_with_the_place_and_the_reason(name, tmp_path):
    file, content, message = WRONG[name]
    (tmp_path / file).write_bytes(content)
    with pytest.raises(DataError, match=message):
        list(rows(tmp_path / file))


def test_an_endless_line_is_refused_without_being_read_whole(tmp_path, monkeypatch):
    monkeypatch.setattr(formats, "ROW_LIMIT", 1 << 16)
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "x"}\n{"text": "' + "x" * (1 << 17) + '"}\n', encoding="utf-8")
    with pytest.raises(DataError, match=r"a\.jsonl:2: longer than"):
        list(rows(path))


CELLS = {
    "missing": ({"b": 1}, "no field 'text'; fields: b"),
    "number": ({"text": 1.5}, "'text' holds a number, expected a string"),
    "list": ({"text": ["x"]}, "'text' holds a list, expected a string"),
    "half a character": ({"text": "\ud800"}, "half a character"),
}


@pytest.mark.parametrize("name", CELLS)
def test_a_cell_that_is_no_text_is_refused(name):
    row, message = CELLS[name]
    with pytest.raises(DataError, match=f"^a:7: .*{message}"):
        reading.text_cell(row, "a:7", "text")


def test_prediction_reads_tables_lines_and_json_from_files_and_standard_input(tmp_path, monkeypatch):
    (tmp_path / "a.csv").write_text("text,n\nx,1\n", encoding="utf-8")
    assert list(input_rows(str(tmp_path / "a.csv"))) == [(f"{tmp_path / 'a.csv'}:2", {"text": "x", "n": "1"})]
    (tmp_path / "a.txt").write_text("one\n\ntwo\n", encoding="utf-8")
    assert [row for _, row in input_rows(str(tmp_path / "a.txt"))] == [{"text": "one"}, {"text": "two"}]
    typed = io.TextIOWrapper(io.BytesIO(b'plain line\n{"text": "from json", "id": 4}\n'))
    monkeypatch.setattr("sys.stdin", typed)
    expected = [("standard input:1", {"text": "plain line"}), ("standard input:2", {"text": "from json", "id": 4})]
    assert list(input_rows("-")) == expected
