"""The table of labels: what it may hold, and every way in which one can be wrong."""

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fl_app.data.label_table import Row, find_table, read_table
from fl_app.errors import DataError


def table(folder: Path, content: str | bytes) -> Path:
    path = folder / "labels.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def refusal(folder: Path, content: str | bytes) -> str:
    """Return the error's text, having checked that nothing of the folder or of a line leaves."""
    with pytest.raises(DataError) as caught:
        read_table(table(folder, content))
    for private in (str(folder), "secret", "anna"):
        assert private not in caught.value.public
    assert str(folder / "labels.csv") in str(caught.value)
    return str(caught.value)


def test_a_line_gives_file_label_patient_and_part(tmp_path: Path) -> None:
    found = read_table(table(tmp_path, "file,label,patient,split\na.png,benign,7,train\nsub/b.png,normal,8,val\n"))
    assert found == [
        Row(2, tmp_path / "a.png", "benign", "7", "train"),
        Row(3, tmp_path / "sub/b.png", "normal", "8", "validation"),
    ]


@pytest.mark.parametrize(
    "content",
    [
        "label,file\nx,a.png\n",
        "file,label\r\na.png,x\r\n",
        "\ufefffile,label\na.png,x",
        "file;label\na.png;x\n",
        "file\tlabel\na.png\tx\n",
        "sep=;\r\nfile;label\r\na.png;x\r\n",
        '\ufeff"sep=,"\nfile,label\na.png,x\n',
        "SEP=|\nfile|label\na.png|x\n",
        "File, Label\n a.png , x \n\n,\n",
        '"file","label"\n"a.png","x"\n',
        "file,label,age,sex\na.png,x,44,f\n",
    ],
)
def test_tables_as_spreadsheets_write_them_are_understood(tmp_path: Path, content: str) -> None:
    (row,) = read_table(table(tmp_path, content))
    assert (row.path, row.label, row.patient, row.part) == (tmp_path / "a.png", "x", "", "train")


def test_a_line_that_names_the_separator_is_counted_as_a_line(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="line 3 has no label"):
        read_table(table(tmp_path, "sep=;\nfile;label\na.png;\n"))


def test_a_backslash_separates_folders_as_on_windows(tmp_path: Path) -> None:
    assert read_table(table(tmp_path, "file,label\nsub\\a.png,x\n"))[0].path == tmp_path / "sub" / "a.png"


@pytest.mark.parametrize(
    ("name", "part"),
    [("train", "train"), ("val", "validation"), ("Validation", "validation"), ("TEST", "test")],
)
def test_each_name_of_a_part_is_understood(tmp_path: Path, name: str, part: str) -> None:
    assert read_table(table(tmp_path, f"file,label,split\na.png,x,{name}\n"))[0].part == part


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "has no column 'file' and no column 'label'"),
        ("file\na.png\n", "line 1 has no column 'label'"),
        ("a.png,x\n", "Expected a header such as file,label,patient,split"),
        ("file,label,file\na.png,x,b.png\n", "has several columns 'file'"),
        ("file,label,patients\na.png,x,anna\n", "has a column 'patients'; is 'patient' meant?"),
        ("file,label,PatientID\na.png,x,anna\n", "has a column 'patientid'; is 'patient' meant?"),
        ("file,label\na.png\n", "line 2 has 1 cells, the header has 2"),
        ("file,label\na.png,x,y\n", "line 2 has 3 cells, the header has 2"),
        ("file,label\nsecret.png,\n", "line 2 has no label"),
        ("file,label\n,x\n", "line 2 has no file"),
        ("file,label,patient\na.png,x,\n", "line 2 has no patient"),
        ("file,label,split\na.png,x,\n", "line 2 has no split"),
        ("file,label,split\na.png,x,secret\n", "line 2 has the split 'secret'; expected train, val, validation, test"),
        ("file,label\na.png,x\n\nb.png,x\n./a.png,y\n", "line 5 names the same file as line 2"),
        ("file,label\n/etc/secret.png,x\n", "line 2 names the file '/etc/secret.png'. Expected a path inside"),
        ("file,label\n../secret.png,x\n", "Expected a path inside the folder"),
        ("file,label\nsub/../../secret.png,x\n", "Expected a path inside the folder"),
        ("file,label\n..\\secret.png,x\n", "Expected a path inside the folder"),
        ("file,label\nC:\\secret.png,x\n", "Expected a path inside the folder"),
        ("file,label\n.,x\n", "Expected a path inside the folder"),
        ("file,label\na\0b.png,x\n", "its character 12 is zero"),
        ('file,label\n"a.png,x\n', "is not CSV"),
        ('file,label\n"a"b.png,x\n', "is not CSV"),
        (b"file,label\n\xe4.png,x\n", "is not UTF-8 text (byte 11)"),
        ("file,label".encode("utf-16"), "is not UTF-8 text"),
        ("file,label\r\na.png,x\r\n".encode("utf-16-le"), "is zero, as in UTF-16"),
        ("file;label\na.png;x\n".encode("utf-16-be"), "is zero, as in UTF-16"),
    ],
)
def test_what_is_wrong_is_named_with_its_line(tmp_path: Path, content: str | bytes, words: str) -> None:
    assert words in refusal(tmp_path, content)


def test_a_link_that_leads_out_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "link").symlink_to(tmp_path)
    assert "Expected a path inside" in refusal(tmp_path / "data", "file,label\nlink/secret.png,x\n")


def test_a_patient_on_two_sides_is_refused_by_lines_and_without_the_name(tmp_path: Path) -> None:
    text = refusal(tmp_path, "file,label,patient,split\na.png,x,anna,train\nb.png,x,bert,val\nc.png,x,anna,test\n")
    assert "line 4 puts a patient into 'test' whom line 2 puts into 'train'" in text and "anna" not in text


def test_a_patient_may_have_several_labels_on_one_side(tmp_path: Path) -> None:
    content = "file,label,patient,split\na.png,x,anna,train\nb.png,y,anna,train\n"
    assert len(read_table(table(tmp_path, content))) == 2


def test_labels_csv_is_the_table_among_several_and_any_other_where_it_is_alone(tmp_path: Path) -> None:
    assert find_table(tmp_path) is None
    (tmp_path / "any.CSV").touch()
    assert find_table(tmp_path) == tmp_path / "any.CSV"
    (tmp_path / "other.csv").touch()
    with pytest.raises(DataError, match=r"holds 2 CSV files: any.CSV, other.csv\. Name the table of labels labels.csv"):
        find_table(tmp_path)
    (tmp_path / "labels.csv").touch()
    assert find_table(tmp_path) == tmp_path / "labels.csv"


TEXT = st.text(st.sampled_from("ab.,;\t\n\r\"'/\\ \0\ufeffä:"), max_size=30)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(header=st.sampled_from(["", "file,label\n", "file;label;split\n", "file,label,patient,split\n"]), body=TEXT)
def test_any_text_gives_rows_inside_the_folder_or_our_error_and_no_other(
    tmp_path: Path, header: str, body: str
) -> None:
    try:
        rows = read_table(table(tmp_path, header + body))
    except DataError:
        return
    for row in rows:
        assert row.label and row.path.resolve().is_relative_to(tmp_path.resolve()) and row.path != tmp_path


@settings(deadline=None)
@given(content=st.binary(max_size=200))
def test_any_bytes_give_rows_or_our_error_and_no_other(
    tmp_path_factory: pytest.TempPathFactory, content: bytes
) -> None:
    folder = tmp_path_factory.getbasetemp()
    try:
        read_table(table(folder, b"file,label\n" + content))
    except DataError:
        return


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from(["train", "val", "test"])), min_size=1, max_size=8))
def test_a_split_is_taken_exactly_if_no_patient_is_on_two_sides(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, str]]
) -> None:
    lines = [f"{number}.png,x,{patient},{split}" for number, (patient, split) in enumerate(rows)]
    path = table(tmp_path_factory.getbasetemp(), "\n".join(["file,label,patient,split", *lines]))
    if len(set(rows)) == len({patient for patient, _ in rows}):
        assert len(read_table(path)) == len(rows)
    else:
        with pytest.raises(DataError, match="All images of a patient belong to one part"):
            read_table(path)
