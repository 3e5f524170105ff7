"""transforms.lists.uri_lists: what lists of any shape name, and what is no list."""

import codecs
import csv
import gzip
import io
import json
import tracemalloc

import pytest

from transforms.lists.list_rows import NotAList, lines_of
from transforms.lists.uri_lists import CredentialsInUrl, LocalPathInRemoteList, NoUriColumn, keys_in, uris_in


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (["uri,label\n", "gs://b/1,cat\n"], ["gs://b/1"]),
        (["label, URI \n", "cat, gs://b/1\n"], ["gs://b/1"]),
        (["gs://b/1,cat\n", "gs://b/2,dog\n"], ["gs://b/1", "gs://b/2"]),
        (["x.jpg\n", "/y.jpg\n"], ["gs://lists/x.jpg", "/y.jpg"]),
        (["label,uri\n", "cat\n"], [""]),
    ],
    ids=["header", "header with space and case", "no header", "relative", "short row"],
)
def test_the_uris_of_a_csv_are_those_of_its_column(lines, expected):
    assert list(uris_in(lines, "gs://lists/all.csv")) == expected


def test_a_line_of_text_is_one_uri_whatever_it_holds():
    assert list(uris_in(["gs://b/a, b.jpg\r\n", ' gs://b/"q".jpg \n'], "l.txt")) == [
        "gs://b/a, b.jpg",
        'gs://b/"q".jpg',
    ]


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-be"])
@pytest.mark.parametrize("name", ["l.csv", "l.txt"])
def test_lists_as_spreadsheets_write_them(encoding, name):
    rows = "uri,label\r\na.jpg,1\r\nb ü.jpg,2\r\n" if name.endswith("csv") else "a.jpg\r\nb ü.jpg\r\n"
    mark = codecs.BOM_UTF16_BE if encoding == "utf-16-be" else b""
    lines = lines_of(io.BytesIO(mark + rows.encode(encoding)))
    assert list(uris_in(lines, f"/lists/{name}")) == ["/lists/a.jpg", "/lists/b ü.jpg"]


@pytest.mark.parametrize("name", ["l.csv", "l.txt"])
def test_a_list_without_line_ends_is_given_up(tmp_path, name):
    path = tmp_path / name
    with path.open("wb") as file:
        file.write(b"a.jpg\n")
        file.truncate(2**30)  # the rest are zeros, which take no room
    uris = []
    with path.open("rb") as file:
        tracemalloc.start()
        try:
            with pytest.raises(ValueError, match="a row of more than 1048576 characters"):
                uris.extend(uris_in(lines_of(file), name))
            assert tracemalloc.get_traced_memory()[1] < 2**24
        finally:
            tracemalloc.stop()
    assert uris == ["a.jpg"]


def test_a_line_ends_with_a_line_feed_alone():
    assert list(lines_of(io.BytesIO(b"a\rb\r\nc\n"))) == ["a\rb\r\n", "c\n"]


def test_utf_16_that_is_broken_off_is_an_error():
    with pytest.raises(UnicodeDecodeError):
        list(lines_of(io.BytesIO(codecs.BOM_UTF16_LE + b"a\0\x80")))


def test_a_row_has_a_million_characters_at_most():
    longest = b"x" * (2**20 - 1)
    assert len(list(uris_in(lines_of(io.BytesIO(longest + b"\n")), "l.txt"))) == 1
    with pytest.raises(ValueError, match="a row of more than 1048576 characters"):
        list(uris_in(lines_of(io.BytesIO(longest + b"xx")), "l.txt"))


def test_little_is_read_to_tell_the_format():
    lines = iter(["x" * 10**5 + "\n"] * 30)
    uris = uris_in(lines, "l.txt")
    assert len(list(lines)) == 29 and len(list(uris)) == 1


def test_rows_that_are_too_long():
    with pytest.raises(ValueError, match="a row of more than 1048576 characters: expected one URI per row"):
        list(uris_in(['uri,"\n', *['","\n'] * 10**6], "l.csv"))
    with pytest.raises(csv.Error, match="field larger than field limit"):
        list(uris_in(['a.jpg,"' + "x" * 2**18], "l.csv"))
    assert len(list(uris_in([f"{i}.jpg," + "x" * 10**5 + "\n" for i in range(100)], "l.csv"))) == 100


@pytest.mark.parametrize(
    "lines",
    [
        ["uri;label", "gs://b/1;cat"],
        ["label\tURL", "cat\tgs://b/1"],
        ["label|File Name", "cat|gs://b/1"],
        ["label,image_path", "cat,gs://b/1"],
        ["label,filepath", "cat,gs://b/1"],
        ["label,filename", "cat,gs://b/1"],
        ["label,file_name", "cat,gs://b/1"],
        ["label,gcs_uri", "cat,gs://b/1"],
        ["label,image", "cat,gs://b/1"],
        ["label,url", "cat,gs://b/1"],
        ["url,path,label", "http://old/1.jpg,gs://b/1,cat"],
        ["gs://b/1;cat", "gs://b/2;dog"],
        ["gs://b/1\tcat, black", "gs://b/2\tdog"],
        ["label,file-name", "cat,gs://b/1"],
        ["# from the archive", "", "uri,label", "gs://b/1,cat"],
        ["# from the archive", "label;uri", "cat;gs://b/1"],
    ],
    ids=repr,
)
def test_tables_of_any_shape(lines):
    uris = list(uris_in([f"{line}\r\n" for line in lines], "gs://lists/all.csv"))
    assert uris[0] == "gs://b/1" and len(uris) == (2 if "gs://b/2" in lines[1] else 1)


@pytest.mark.parametrize("name", ["l.csv", "l.CSV", "l.csv.gz", "L.CSV.GZ"])
def test_the_name_of_a_list_says_that_it_is_a_table(name):
    assert list(uris_in(["a.jpg,cat\n", "b.jpg,dog\n"], f"/{name}")) == ["/a.jpg", "/b.jpg"]


def test_other_suffixes():
    assert list(uris_in(["caption\turl\n", "x, y\tgs://b/1\n"], "l.tsv")) == ["gs://b/1"]
    assert list(uris_in(["url,caption\n", "gs://b/1,x\n"], "l.txt")) == ["gs://b/1"]
    assert list(uris_in(["gs://b/1\tcat\n"], "l.txt")) == ["gs://b/1"]
    assert list(uris_in(["\ta.jpg\n"], "/l.txt")) == ["/a.jpg"]
    assert list(uris_in(["x" * 140_000 + ".jpg\n"], "/l.txt")) == [f"/{'x' * 140_000}.jpg"]  # too long for a cell
    for packed in ("gz", "bz2", "xz"):
        assert list(uris_in(["gs://b/1,x\n"], f"l.csv.{packed}")) == ["gs://b/1"]
    for table in ("csv", "tsv", "tab"):
        with pytest.raises(NoUriColumn, match="columns 'photo'"):
            list(uris_in(["photo\n", "x.jpg\n"], f"/l.{table}"))


def test_one_column_with_the_marks_of_others_in_its_names():
    assert list(uris_in(["a;b.jpg\n", "c;d.jpg\n"], "/l.csv")) == ["/a;b.jpg", "/c;d.jpg"]
    assert list(uris_in(["abc\n", "def\n"], "/l.csv")) == ["/abc", "/def"]
    assert list(uris_in(["abc,cat\n", "def,dog\n"], "/l.csv")) == ["/abc", "/def"]
    assert list(uris_in(["bi;ld\n", "c;d.jpg\n"], "/l.csv", "bi;ld")) == ["/c;d.jpg"]


def test_one_column_with_commas_in_some_names():
    lines = ["uri\n", "a, b.jpg\n", "c.jpg\n", ",d.jpg\n", '"e, ""f"".jpg"\n']
    assert list(uris_in(lines, "/l.csv")) == ["/a, b.jpg", "/c.jpg", "/,d.jpg", '/e, "f".jpg']
    assert list(uris_in(["uri\n", "a.jpg,1\n", "b.jpg,2\n"], "/l.csv")) == ["/a.jpg", "/b.jpg"]


def test_a_label_that_is_the_name_of_a_column():
    assert list(uris_in(["gs://b/1,image\n", "gs://b/2,text\n"], "l.csv")) == ["gs://b/1", "gs://b/2"]
    assert list(uris_in(["1.jpg,file\n", "2.jpg,url\n"], "/l.csv")) == ["/1.jpg", "/2.jpg"]


@pytest.mark.parametrize(
    "lines",
    [
        ["key,url\n", "0001,gs://b/1\n", ",\n", "2,gs://b/2\n"],
        ["path,filename\n", "set one,gs://b/1\n", "set two,gs://b/2\n"],
        ["uri,file\n", "https://old/1.jpg,gs://b/1\n", "HTTPS://old/2.jpg,gs://b/2\n"],
        ['{"image": {"width": 1}, "url": "gs://b/1"}\n', '{"image": null, "url": "gs://b/2"}\n'],
        ['{"key": 1, "url": "gs://b/1"}\n', '{"key": "2", "url": "gs://b/2"}\n'],
    ],
    ids=repr,
)
def test_of_several_known_columns_the_first_that_names_files(lines):
    assert list(uris_in(lines, "/l.csv")) == ["gs://b/1", "gs://b/2"]


def test_several_known_columns_that_name_no_files():
    assert list(uris_in(["key,url\n", "1,x\n"], "/l.csv")) == ["/1"]
    assert list(uris_in(["uri,image\n", "1.jpg,gs://b/1\n", "2,gs://b/2\n"], "/l.csv", "uri")) == ["/1.jpg", "/2"]


def test_cells_in_quotes_with_spaces_before_them():
    lines = ["label, uri\n", 'a, "b, c.jpg"\n', '"d" , "e.jpg" \n']
    assert list(uris_in(lines, "/l.csv")) == ["/b, c.jpg", "/e.jpg"]


def test_lines_of_text_in_quotes():
    assert list(uris_in(['"a, b.jpg"\r\n', '"c.jpg"\r\n'], "/l.txt")) == ["/a, b.jpg", "/c.jpg"]
    assert list(uris_in(['"label","file_name"\n', '"cat","c.jpg"\n'], "/l.lst")) == ["/c.jpg"]
    assert list(uris_in(['"a".jpg\n', '"c.jpg"\n'], "/l.txt")) == ['/"a".jpg', '/"c.jpg"']


def test_a_column_by_name():
    lines = ["uri,Bild Datei\n", "gs://b/1,gs://b/2\n"]
    assert list(uris_in(lines, "l.csv", "bild_datei")) == ["gs://b/2"]
    assert list(uris_in(['{"uri": "gs://b/1", "bild": "gs://b/2"}\n'], "l.txt", "bild")) == ["gs://b/2"]
    assert list(uris_in(["bild\n", "gs://b/2\n"], "l.txt", "bild")) == ["gs://b/2"]


@pytest.mark.parametrize(
    ("lines", "uri_column", "named"),
    [
        (
            ["name,label\n", "x.jpg,cat\n"],
            None,
            "columns 'name', 'label': expected a column with one of the names uri, ",
        ),
        (["name;label\n", "x.jpg;cat\n"], None, "columns 'name', 'label': "),
        (["photo\n", "x.jpg\n"], None, "columns 'photo': "),
        (
            ["uri,label\n", "x.jpg,cat\n"],
            "place",
            "columns 'uri', 'label': expected a column 'place'; --uri_column NAME",
        ),
        (['{"name": "x.jpg", "n": 1}\n'], None, "columns 'name', 'n': "),
    ],
)
def test_a_header_without_a_known_name_is_said_with_its_columns(lines, uri_column, named):
    with pytest.raises(NoUriColumn) as raised:
        list(uris_in(lines, "l.csv", uri_column))
    assert str(raised.value).startswith(named) and "--uri_column NAME" in str(raised.value)


def test_a_json_object_without_any_name_is_said_to_have_none():
    with pytest.raises(
        NoUriColumn, match="^a JSON object without names: expected a column with one of the names uri, "
    ):
        list(uris_in(["{}\n", '{"uri": "x.jpg"}\n'], "l.jsonl"))


def test_a_column_by_name_that_a_text_does_not_have():
    with pytest.raises(NoUriColumn, match="columns 'x.jpg'"):
        list(uris_in(["x.jpg\n"], "l.txt", "place"))


def test_of_many_columns_twenty_are_named():
    for count in (20, 21):
        header = ",".join(f"c{number}" for number in range(count))
        with pytest.raises(NoUriColumn) as raised:
            list(uris_in([f"{header}\n", "x.jpg,\n"], "l.csv"))
        assert ("…" in str(raised.value)) is (count > 20)


def test_json_lines_that_name_nothing():
    rows = ['{"uri": "a.jpg"}\n', '{"n": 1}\n', f"{'[' * 100_000}\n"]
    assert list(uris_in(rows, "/l.jsonl")) == ["/a.jpg", "", ""]


def test_json_lines():
    rows = ["# exported", '{"file_name": "a.jpg", "w": 1}', "", '"gs://b/ b "', '{"uri": 7}', "{broken", "[1]", "null"]
    lines = [f"{row}\n" for row in rows]
    assert list(uris_in(lines, "/l/l.jsonl")) == ["/l/a.jpg", "gs://b/ b ", "", "", "", ""]
    with pytest.raises(ValueError, match="a JSON array: expected JSON lines"):
        list(uris_in(['[{"uri": "a.jpg"}]'], "l.json"))


def test_only_a_line_that_begins_with_a_hash_is_a_comment():
    lines = ["#uri,label\n", '"#1.jpg",cat\n', ' #2.jpg,"of\n', '#3, quoted"\n', "x/#4.jpg,dog\n", "#5.jpg,bird\n"]
    assert list(uris_in(lines, "/l.csv")) == ["/#1.jpg", "/#2.jpg", "/x/#4.jpg"]
    assert list(uris_in([" #1.jpg\n", "#2.jpg\n"], "/l.txt")) == ["/#1.jpg"]


def test_one_file_has_one_key():
    spellings = ["../p/a.jpg", "./../p/a.jpg", "/p//a.jpg", "/x/../p/./a.jpg", "//p/a.jpg", "/p/a.jpg"]
    assert set(uris_in(spellings, "/l/l.txt")) == {"/p/a.jpg"}
    assert list(uris_in(["gs://b/../x//./y.jpg"], "/l/l.txt")) == ["gs://b/../x//./y.jpg"]
    assert list(uris_in(["../x//y.jpg"], "gs://b/l/l.txt")) == ["gs://b/l/../x//y.jpg"]


def test_names_are_taken_as_they_are():
    names = ["a%20b.jpg", "C:\\p\\a.jpg", "e\u0301.jpg", "\u00e9.jpg", "[1].jpg", "{a,b}.jpg", "~.jpg"]
    assert list(uris_in(names, "/l.txt")) == [f"/{name}" for name in names]
    rows = [json.dumps(name) for name in ["a\nb.jpg", " a.jpg ", '"q".jpg']]
    assert list(uris_in(rows, "/l.jsonl")) == ["/a\nb.jpg", "/ a.jpg ", '/"q".jpg']


def test_a_quoted_name_with_a_line_break():
    assert list(uris_in(["uri,n\n", '"a\n', 'b.jpg",1\n', "c.jpg,2\n"], "/l.csv")) == ["/a\nb.jpg", "/c.jpg"]


def test_the_first_column_of_files_if_there_is_no_header():
    assert list(uris_in(["0,a.jpg,cat\n", "1,b.jpg,dog\n"], "/l.csv")) == ["/a.jpg", "/b.jpg"]
    assert list(uris_in(["test,gs://b/1,cat.x\n", "training,gs://b/2,dog.x\n"], "l.csv")) == ["gs://b/1", "gs://b/2"]


@pytest.mark.parametrize("mark", [",", ";", "\t", "|"])
@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ([("0", "a.jpg"), ("1", "b.jpg")], ["/a.jpg", "/b.jpg"]),
        ([("cat", "a.jpg"), ("dog", "b.jpg"), ("cat", "c.jpg")], ["/a.jpg", "/b.jpg", "/c.jpg"]),
        ([("cat", "x", "/p/a.jpg")], ["/p/a.jpg"]),
        ([("train", '"gs://b/1"', "cat"), ("test", '"gs://b/2"', "dog")], ["gs://b/1", "gs://b/2"]),
    ],
    ids=["numbers", "labels", "path", "uris"],
)
def test_a_label_before_the_file_in_any_table_without_a_header(mark, rows, expected):
    assert list(uris_in([f"{mark.join(row)}\n" for row in rows], "/l.csv")) == expected


def test_a_header_of_one_column_in_text():
    assert list(uris_in(["File Name\n", "a, b.jpg\n"], "/l.txt")) == ["/a, b.jpg"]
    assert list(uris_in(["image\n", "other\n"], "/l.txt")) == ["/image", "/other"]


def test_what_excel_writes():
    assert list(uris_in(["sep=;\r\n", "uri;n\r\n", "a.jpg;1\r\n"], "/l.csv")) == ["/a.jpg"]
    assert read(b"uri,n\ra.jpg,1\rb.jpg,2\r", "/l.csv") == [b"/a.jpg", b"/b.jpg"]


@pytest.mark.parametrize(
    ("content", "name", "expected"),
    [
        (b'{\n  "images": [\n {"file_name": "a.jpg"}\n]}\n', "coco.json", "no JSON of its own: expected JSON lines"),
        (b'[\n  {"file_name": "a.jpg"}\n]\n', "l.json", "a JSON array: expected JSON lines"),
        (b'[{"file_name": "a.jpg"}]', "l.txt", "a JSON array: expected JSON lines"),
        (b"a.jpg\n", "l.jsonl", "no JSON of its own"),
        (b"PK\x03\x04abc\n", "l.xlsx", "expected text in UTF-8"),
        (b"PAR1abc\n", "l.parquet", "expected text in UTF-8"),
        (b"\x28\xb5\x2f\xfdabc\n", "l.csv.zst", "expected text in UTF-8"),
        (b"\xff\xd8\xff\xe0\0\x10JFIF\0\n", "a.jpg", "expected text in UTF-8"),
        (b"\x89PNG\r\n\x1a\n", "a.png", "expected text in UTF-8"),
        ("a.jpg\n".encode("utf-16-le"), "l.txt", "expected text in UTF-8, or in UTF-16 with a byte order mark"),
        ("a.jpg\n".encode("utf-32"), "l.txt", "expected text in UTF-8"),
    ],
)
def test_what_is_no_list(content, name, expected):
    with pytest.raises(NotAList, match=expected):
        read(content, f"/{name}")


def read(content, list_uri="gs://b/l.txt"):
    return list(keys_in(io.BytesIO(content), list_uri))


def test_keys_and_what_is_wrong_with_rows():
    keys = read(b"a.jpg\n/etc/passwd\n", "gs://b/l.txt")
    assert keys[0] == b"gs://b/a.jpg" and isinstance(keys[1], LocalPathInRemoteList)
    for scheme in (b"file", b"FILE"):
        (local,) = read(scheme + b":///etc/passwd\n")
        assert isinstance(local, LocalPathInRemoteList)
    assert "expected a URI in this row" in str(read(b'{"uri": ""}\n', "/l.jsonl")[0])
    missing, alone = read(b'{"uri": ""}\n{"uri": "\\ud800"}\n', "/l.jsonl")
    assert isinstance(missing, ValueError) and isinstance(alone, ValueError)
    assert read(b"caf\xe9.jpg\n", "/l.txt") == [b"/caf\xe9.jpg"]


def test_packed_lists():
    assert read(gzip.compress(b"a.jpg\nb.jpg\n")) == [b"gs://b/a.jpg", b"gs://b/b.jpg"]


@pytest.mark.parametrize("list_uri", ["/lists/a.txt", "gs://lists/a.txt"])
def test_urls_are_keys_as_they_are_listed(list_uri):
    urls = ["HTTPS://Example.com/a%20b c.jpg?x=1#y", "http://h:80/../caf\u00e9.jpg", "https://h/a@b.jpg?c@d"]
    assert list(keys_in(io.BytesIO("\n".join(urls).encode()), list_uri)) == [url.encode() for url in urls]


@pytest.mark.parametrize(
    "url", ["https://me:secret@h/a.jpg", "HTTP://me@h", "http://me:secret\\@h/", "http://@h/a.jpg"]
)
def test_a_url_with_credentials_becomes_no_key(url):
    (error,) = keys_in(io.BytesIO(url.encode()), "gs://lists/a.txt")
    assert isinstance(error, CredentialsInUrl) and "secret" not in str(error)


def test_what_a_bucket_has_is_read_before_urls():
    lines = ["url,file_name\n", "https://h/1.jpg,a.jpg\n"]
    assert list(uris_in(lines, "gs://b/l.csv")) == ["gs://b/a.jpg"]
    assert list(uris_in(lines, "gs://b/l.csv", "url")) == ["https://h/1.jpg"]


def test_urls_are_read_before_what_names_no_file():
    assert list(uris_in(["key,URL,TEXT\n", "000001,https://h/1,a cat\n"], "l.csv")) == ["https://h/1"]
    assert list(uris_in(['{"key": "7", "url": "http://h/1.jpg"}\n'], "l.jsonl")) == ["http://h/1.jpg"]
    assert list(uris_in(["image\turl\n", "3\thttps://h/a?b=c\n"], "l.tsv")) == ["https://h/a?b=c"]
