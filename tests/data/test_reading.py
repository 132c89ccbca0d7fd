"""Every file format gives the same rows; what is wrong with a file is said with its place."""

import csv
import gzip
import io
import json
import os

import pyarrow as pa
import pyarrow.parquet
import pytest

from ptft.data import formats, reading
from ptft.data.files import resolve
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


@pytest.mark.parametrize("name", ["rows.data", "rows.txt", "rows"])
@pytest.mark.parametrize("delimiter", [",", ";", "|", "\t"])
def test_a_table_is_known_by_its_lines_whatever_its_name(name, delimiter, tmp_path):
    lines = ["text,label", '"one, two",a', "three,b"]
    (tmp_path / name).write_text("\n".join(line.replace(",", delimiter) for line in lines) + "\n")
    assert [list(row.values()) for _, row in rows(tmp_path / name)] == [[f"one{delimiter} two", "a"], ["three", "b"]]


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
    (tmp_path / "a.txt").write_text("one\ntwo\n", encoding="utf-8")
    assert [row for _, row in input_rows(str(tmp_path / "a.txt"))] == [{"text": "one"}, {"text": "two"}]
    typed = io.TextIOWrapper(io.BytesIO(b'plain line\n{"text": "from json", "id": 4}\n'))
    monkeypatch.setattr("sys.stdin", typed)
    expected = [("standard input:1", {"text": "plain line"}), ("standard input:2", {"text": "from json", "id": 4})]
    assert list(input_rows("-")) == expected


@pytest.fixture
def piped(monkeypatch):
    """The rows of standard input with the given content."""

    def read(content: bytes, columns=("text",)) -> list:
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(content)))
        return list(input_rows("-", columns))

    return read


@pytest.mark.parametrize("name", [name for name in FILES if name not in ("mark.csv", "stream.arrow")])
@pytest.mark.parametrize("packing", [bytes, gzip.compress, zstandard])
def test_standard_input_is_known_by_its_content_as_a_file_is(name, packing, piped):
    assert [row for _, row in piped(packing(FILES[name]))] == ROWS


def test_a_byte_order_mark_is_no_part_of_the_first_column(piped):
    assert [row for _, row in piped(FILES["mark.csv"])] == ROWS


def test_json_may_be_indented(piped):
    assert piped(b' {"text": "a"}\n\t{"text": "b"}\n') == [
        ("standard input:1", {"text": "a"}),
        ("standard input:2", {"text": "b"}),
    ]


def test_a_table_after_blank_lines_keeps_its_line_numbers(piped):
    assert piped(b"\n\nid,text\n7,x\n") == [("standard input:4", {"id": "7", "text": "x"})]


@pytest.mark.parametrize(
    ("lines", "texts"),
    [
        ("\none\n \n\ntwo\n\n\n", ["", "one", "", "", "two"]),
        ('{"text": "one"}\n\n{"text": "two"}\n', ["one", "two"]),
        ('{"text": "one"}\n\ntwo', ["one", "", "two"]),
    ],
)
def test_rows_of_text_are_the_lines_of_the_file_up_to_its_last_one_with_text(lines, texts, piped):
    assert [row["text"] for _, row in piped(lines.encode())] == texts


@pytest.mark.parametrize(
    "lines",
    ["one, two, three\nfour\n", "this text, and more\nb,c\n", "[1] Smith\n[2] Jones\n", "text\nb\n", 'a\t"b\nc\n'],
)
def test_a_text_stays_a_text_whatever_stands_between_its_words(lines, piped):
    assert [row["text"] for _, row in piped(lines.encode())] == lines.splitlines()


def test_a_table_is_no_table_where_no_columns_are_asked_for(piped):
    assert [row for _, row in piped(b"id,text\n7,x\n", ())] == [{"text": "id,text"}, {"text": "7,x"}]


def test_a_file_whose_name_says_nothing_is_a_table_where_its_header_names_the_columns(tmp_path):
    path = tmp_path / "odd"
    path.write_text("id;text\n7;x\n", encoding="utf-8")
    assert list(input_rows(str(path), ["text"])) == [(f"{path}:2", {"id": "7", "text": "x"})]


def test_lines_of_standard_input_are_answered_before_the_next_is_there(monkeypatch):
    reading_end, writing_end = os.pipe()
    with open(reading_end, encoding="utf-8") as stream, open(writing_end, "wb", buffering=0) as writer:
        monkeypatch.setattr("sys.stdin", stream)
        found = input_rows("-", ["text"])
        for line in (b"one\n", b'{"text": "two"}\n'):
            writer.write(line)
            assert next(found)[1]["text"] in ("one", "two")


PIPES = {
    "not UTF-8": (b"ok\ncaf\xe9 noir\n", r"^standard input:2: not UTF-8 \(byte 0xe9, column 4\)$"),
    "packed and not UTF-8": (gzip.compress(b"ok\ncaf\xe9 noir\n"), r"^standard input:2: not UTF-8"),
    "cut gzip": (gzip.compress(b"text\n" * 9000)[:-20], "^standard input: damaged"),
    "broken JSON": (b'[{"text": "a"},\n', "^standard input: not JSON"),
    "short row": (b"id,text\n7\n", "^standard input:2: 1 cells, expected 2"),
}


@pytest.mark.parametrize("name", PIPES)
def test_what_is_wrong_with_standard_input_is_said_in_one_line(name, piped):
    content, message = PIPES[name]
    with pytest.raises(DataError, match=message) as caught:
        piped(content)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"\n\n", b"id,text\n", b"[]"])
@pytest.mark.parametrize("name", ["a.csv", "a.txt", "-"])
def test_input_without_rows_is_refused(name, content, piped, tmp_path):
    (tmp_path / "a").write_bytes(content)
    path = str((tmp_path / "a").rename(tmp_path / name))
    with pytest.raises(DataError, match=r"^input=.*: holds no rows$"):
        piped(content) if name == "-" else list(input_rows(path, ["text"]))


def test_a_misspelt_input_is_answered_with_the_setting_and_the_nearest_file(tmp_path):
    (tmp_path / "corpus.txt").write_text("x\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"^input=.*corpus\.txtt: no such file or folder; did you mean '.*corpus\.txt'\?$"):
        list(input_rows(str(tmp_path / "corpus.txtt")))


def test_standard_input_is_no_data_to_train_on():
    with pytest.raises(DataError, match="^dataset.path=-: standard input is read by predict and generate only"):
        resolve("-", "dataset.path")


@pytest.mark.parametrize("name", ["id", "ID", "Id", "GUID"])
def test_the_name_of_a_row_is_found_however_its_column_is_written(name):
    assert reading.row_id({"text": "x", name: "a7"}, 3) == "a7"
    assert reading.row_id({"text": "x", name: None, "uid": "u"}, 3) == "u"
    assert reading.row_id({"text": "x", name: None}, 3) == 3
    assert reading.row_id({"text": "x", name: float("nan")}, 3) == 3


@pytest.mark.parametrize(("cell", "label"), [(1.0, "1"), (" a ", "a"), (float("nan"), ""), ([1.0, "b"], "1|b"), (1.5, "1.5")])
def test_a_label_reads_the_same_from_every_format(cell, label):
    assert reading.label_cell({"y": cell}, "a:1", "y") == label


def test_what_only_python_reads_as_a_number_is_words():
    assert reading.is_words("1_1") and not reading.is_words("11")


CLASSES = {"names": ["O", "B-PER", "I-PER"], "_type": "ClassLabel"}
FEATURES = {
    "label": {"names": ["neg", "pos"], "_type": "ClassLabel"},
    "tags": {"feature": CLASSES, "_type": "List"},
    "stars": {"dtype": "int64", "_type": "Value"},
    "gone": CLASSES,
}
NUMBERED = [
    {"label": 1, "tags": [1, 2, 0], "stars": 1},
    {"label": -1, "tags": [], "stars": 0},
    {"label": 7, "tags": [0], "stars": 2},
]


@pytest.mark.parametrize("form", ["parquet", "arrow"])
def test_classes_have_the_names_that_hugging_faces_datasets_left_in_the_file(form, tmp_path):
    table, path = pa.Table.from_pylist(NUMBERED), tmp_path / f"a.{form}"
    table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": FEATURES}})})
    if form == "parquet":
        pyarrow.parquet.write_table(table, path)
    else:
        with pa.ipc.new_stream(path, table.schema) as writer:
            writer.write_table(table)
    assert [row for _, row in rows(path)] == [
        {"label": "pos", "tags": ["B-PER", "I-PER", "O"], "stars": 1},
        {"label": None, "tags": [], "stars": 0},
        {"label": 7, "tags": ["O"], "stars": 2},
    ]


@pytest.mark.parametrize("told", ["", "[]", '{"info": 3}', '{"info": {"features": {"label": {"_type": "ClassLabel"}}}}', "{"])
def test_what_is_left_in_a_file_without_sense_changes_nothing(told, tmp_path):
    table = pa.Table.from_pylist(NUMBERED).replace_schema_metadata({"huggingface": told})
    pyarrow.parquet.write_table(table, tmp_path / "a.parquet")
    assert [row for _, row in rows(tmp_path / "a.parquet")] == NUMBERED
