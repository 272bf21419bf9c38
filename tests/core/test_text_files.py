"""One reader for all text: encodings in a stated order, compressed files, and refusals that name the file."""

from __future__ import annotations

import bz2
import codecs
import gzip
import io
import lzma
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from esmerge.core.compose import compose_choice
from esmerge.core.errors import ConfigError, InputError
from esmerge.core.json_lines import read_json_lines, read_json_object
from esmerge.core.text_files import read_text

TEXT = "name,β-carotene\nÄ,é\n"


@pytest.mark.parametrize(
    "content",
    [
        TEXT.encode(),
        TEXT.encode("utf-8-sig"),
        TEXT.encode("utf-16"),
        codecs.BOM_UTF16_BE + TEXT.encode("utf-16-be"),
        TEXT.encode("utf-32"),
        codecs.BOM_UTF32_BE + TEXT.encode("utf-32-be"),
        TEXT.replace("\n", "\r\n").encode(),
        TEXT.replace("\n", "\r").encode(),
    ],
)
def test_every_marked_encoding_and_line_end_is_the_same_text(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_bytes(content)
    assert read_text(path) == TEXT


def zipped(content: bytes, names: tuple[str, ...] = ("t.csv",)) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name in names:
            archive.writestr(name, content)
    return buffer.getvalue()


@pytest.mark.parametrize("pack", [gzip.compress, bz2.compress, lzma.compress, zipped])
def test_compressed_text_is_read_whatever_its_name_and_a_cut_one_is_refused(
    pack: Callable[[bytes], bytes], tmp_path: Path
) -> None:
    path = tmp_path / "t.csv"
    path.write_bytes(pack(TEXT.encode("utf-16")))
    assert read_text(path) == TEXT
    path.write_bytes(pack(TEXT.encode() * 500)[:-20])
    with pytest.raises(InputError, match=f"{path} is an? .* cannot be unpacked"):
        read_text(path)


@pytest.mark.parametrize("encoding", ["latin-1", "cp1252"])
def test_one_byte_letters_are_read_and_said(encoding: str, tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_bytes("first\nnaïve é".encode(encoding))
    with pytest.warns(UserWarning, match=f"{path} is not UTF-8 .byte 0xEF in line 2. and was read as Windows-1252"):
        assert read_text(path) == "first\nnaïve é"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("abc".encode("utf-16-le"), "bytes of zero .the first in line 1.*UTF-16 without a byte order mark"),
        ("é\n".encode() + b"\xe9\n", "line 2: byte 0xE9 is not UTF-8, though other letters are"),
        ("é\nβ".encode()[:-1], "ends in the middle of a letter, in line 2"),
        (b"a\n\x8f\n", "line 2: byte 0x8F is neither UTF-8 nor Windows-1252"),
        (codecs.BOM_UTF16_LE + b"a", "begins with the mark of UTF-16, but is not UTF-16"),
        (zipped(b"a", ("sheet1.xml", "sheet2.xml")), "zip archive of 2 files, as Excel workbooks are"),
    ],
)
def test_what_is_not_text_is_refused_by_name(content: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_bytes(content)
    with pytest.raises(InputError, match=f"{path}.*{message}"):
        read_text(path)


def test_a_folder_and_a_missing_file_are_refused_by_name(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "none.csv"):
        with pytest.raises(InputError, match=f"{path} cannot be read"):
            read_text(path)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_json_is_read_in_any_encoding(encoding: str, tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    path.write_bytes('{"mol": "CCO\u2028β"}\r\n\r\n{"mol": "C"}'.encode(encoding))
    assert read_json_lines(path) == [(1, {"mol": "CCO\u2028β"}), (3, {"mol": "C"})]
    path.write_bytes('{"r":\n 8}'.encode(encoding))
    assert read_json_object(path) == {"r": 8}


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"mol": "C"', "line 2 is not JSON"),
        ('["C"]', "line 2 is a list: expected an object"),
        ('{"mol": "C", "mol": "CC"}', "line 2 gives 'mol' twice in one object"),
    ],
)
def test_a_bad_line_is_named(line: str, message: str, write: Callable[[str, str], Path]) -> None:
    with pytest.raises(InputError, match=message):
        read_json_lines(write("t.jsonl", '{"mol": "C"}\n' + line))


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "cp1252"])
@pytest.mark.filterwarnings("ignore:.*Windows-1252")
def test_hydra_reads_configs_in_any_encoding(encoding: str, tmp_path: Path) -> None:
    (tmp_path / "method").mkdir()
    text = "# @package _group_\ndefaults: [ties]\nname: ties\nkeep: 0.5  # für alle\n"
    (tmp_path / "method" / "half.yaml").write_bytes(text.encode(encoding))
    assert compose_choice("method", "half", [f"file://{tmp_path}"])["keep"] == 0.5


@pytest.mark.parametrize(("content", "message"), [(b"name: \0", "bytes of zero"), (b"name: [ties\n", "is not YAML")])
def test_a_config_that_cannot_be_read_is_named(content: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / "method").mkdir()
    (tmp_path / "method" / "half.yaml").write_bytes(content)
    with pytest.raises(ConfigError, match=f"half.yaml.*{message}"):
        compose_choice("method", "half", [f"file://{tmp_path}"])
