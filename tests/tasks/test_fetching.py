"""From sources to tables under their names: checksums, the lock file, what is made of them, and the commands."""

from __future__ import annotations

import gzip
import hashlib
import json
import re
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.tasks.fetching_server import Site, good, site, status

from esmerge.cli.tasks.main import dispatch as main
from esmerge.core.errors import ConfigError, InputError, StoreError
from esmerge.storage.files import file_sha256
from esmerge.tasks.fetch import commands
from esmerge.tasks.fetch.integrity import check_readable, git_blob
from esmerge.tasks.fetch.ledger import NAME, Ledger
from esmerge.tasks.fetch.making import distinct
from esmerge.tasks.fetch.placing import PLACED, PRESENT, place_file
from esmerge.tasks.fetch.retry import RetryPolicy
from esmerge.tasks.fetch.sources import RemoteFile, upstream
from esmerge.tasks.fetch.transfer import download

TABLE = b"SMILES,Protein,Y\nCC,MK,1\nCCC,MK,0\n"
QUICK = RetryPolicy(attempts=3, stall=0.3, sleep=lambda _: None)


def digest(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()


@pytest.fixture(autouse=True)
def direct(monkeypatch: pytest.MonkeyPatch) -> None:
    """No proxy between this process and itself."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


@pytest.fixture
def server() -> Iterator[Site]:
    with site() as web_server:
        web_server.files["/t.csv"] = TABLE
        yield web_server


def bring(server: Site, file: RemoteFile, root: Path) -> str:
    return place_file(file, root, lambda target: download(file.url, target, QUICK).path)


def visible(root: Path) -> list[str]:
    return sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file() and path.name[0] != ".")


def test_the_first_fetch_records_and_the_second_asks_nobody(server: Site, tmp_path: Path) -> None:
    file = RemoteFile("a/t.csv", server.url("/t.csv"))
    assert [bring(server, file, tmp_path), bring(server, file, tmp_path)] == [PLACED, PRESENT]
    assert (tmp_path / "a/t.csv").read_bytes() == TABLE and len(server.requests) == 1
    assert visible(tmp_path) == ["a/t.csv", NAME], "no partial file is left"
    record = json.loads((tmp_path / NAME).read_text())["a/t.csv"]
    assert {key: record[key] for key in ("url", "sha256", "bytes")} == {
        "url": file.url,
        "sha256": digest(TABLE),
        "bytes": len(TABLE),
    }
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00", record["date"])


def test_another_version_upstream_is_refused_and_both_checksums_named(server: Site, tmp_path: Path) -> None:
    file = RemoteFile("t.csv", server.url("/t.csv"))
    bring(server, file, tmp_path)
    (tmp_path / "t.csv").unlink()
    server.files["/t.csv"] = other = TABLE + b"C,MK,1\n"
    with pytest.raises(InputError) as error:
        bring(server, file, tmp_path)
    for part in (digest(TABLE), digest(other), "delete the entry 't.csv'", "t.csv.rejected"):
        assert part in str(error.value)
    assert visible(tmp_path) == ["t.csv.rejected", NAME] and (tmp_path / "t.csv.rejected").read_bytes() == other
    (tmp_path / NAME).write_text("{}")  # what the message says to do, for the only entry
    assert bring(server, file, tmp_path) == PLACED and (tmp_path / "t.csv").read_bytes() == other


def test_a_table_that_was_changed_on_disk_is_refused(server: Site, tmp_path: Path) -> None:
    file = RemoteFile("t.csv", server.url("/t.csv"))
    bring(server, file, tmp_path)
    (tmp_path / "t.csv").write_bytes(b"edited")
    with pytest.raises(InputError, match=f"{digest(b'edited')}, but {digest(TABLE)} was recorded on 20"):
        bring(server, file, tmp_path)
    assert (tmp_path / "t.csv").read_bytes() == b"edited", "a user's file is left alone"


@pytest.mark.parametrize("checksum", [{"sha256": "0" * 64}, {"git_blob": "0" * 40}])
def test_a_known_checksum_is_enforced_at_once(checksum: dict[str, str], server: Site, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"but 0+ is known of http.*not the published table"):
        bring(server, RemoteFile("t.csv", server.url("/t.csv"), **checksum), tmp_path)
    assert visible(tmp_path) == ["t.csv.rejected"], "neither placed nor recorded"


def test_a_table_put_there_by_hand_is_checked_and_recorded(server: Site, tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_bytes(TABLE)
    file = RemoteFile("t.csv", server.url("/t.csv"), digest(TABLE), "cd6fd9efb9fd9eda")
    with pytest.raises(InputError, match="git blob id"):
        bring(server, file, tmp_path)
    assert bring(server, RemoteFile("t.csv", file.url, digest(TABLE)), tmp_path) == PRESENT
    assert not server.requests and Ledger(tmp_path).records()["t.csv"].sha256 == digest(TABLE)


def test_a_broken_transfer_leaves_nothing_under_the_final_name(server: Site, tmp_path: Path) -> None:
    server.script = [good(5, ranges=False)] * 9
    with pytest.raises(InputError, match="3 attempts"):
        bring(server, RemoteFile("t.csv", server.url("/t.csv")), tmp_path)
    assert visible(tmp_path) == ["t.csv.part", "t.csv.part.json"]
    server.script = []
    assert bring(server, RemoteFile("t.csv", server.url("/t.csv")), tmp_path) == PLACED


def test_an_archive_cut_short_without_a_length_is_noticed(server: Site, tmp_path: Path) -> None:
    server.files["/t.csv.gz"] = gzip.compress(TABLE * 50)
    server.script = [good(40, length=False)]
    file = RemoteFile("t.csv.gz", server.url("/t.csv.gz"))
    with pytest.raises(InputError, match=r"t\.csv\.gz is no whole gz file"):
        bring(server, file, tmp_path)
    assert bring(server, file, tmp_path) == PLACED


def test_archives_and_empty_files_are_checked(tmp_path: Path) -> None:
    archive = tmp_path / "a.zip"
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("t.csv", TABLE)
    check_readable(archive, "a.zip")
    content = archive.read_bytes()
    for broken in (content[:-30], content.replace(b"CCC", b"CCN"), b"no archive"):
        archive.write_bytes(broken)
        with pytest.raises(InputError, match="a.zip is no whole zip file"):
            check_readable(archive, "a.zip")
    archive.write_bytes(b"")
    with pytest.raises(InputError, match="t.csv is empty"):
        check_readable(archive, "t.csv")


def test_two_at_once_fetch_once(server: Site, tmp_path: Path) -> None:
    file, outcomes = RemoteFile("t.csv", server.url("/t.csv")), []
    workers = [threading.Thread(target=lambda: outcomes.append(bring(server, file, tmp_path))) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert sorted(outcomes) == [PLACED, PRESENT, PRESENT, PRESENT] and len(server.requests) == 1


def test_records_made_at_once_are_all_kept(tmp_path: Path) -> None:
    workers = [threading.Thread(target=Ledger(tmp_path).add, args=(f"t{n}", "u", "s", n)) for n in range(12)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert set(Ledger(tmp_path).records()) == {f"t{n}" for n in range(12)}


@pytest.mark.parametrize("text", ["", "[]", '{"t": {"sha": 1}}'])
def test_a_lock_file_that_is_none_is_named(text: str, tmp_path: Path) -> None:
    (tmp_path / NAME).write_text(text)
    with pytest.raises(InputError, match="is not a lock file of tables"):
        Ledger(tmp_path).records()


def test_gits_name_of_a_file_is_gits(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"hello\n")
    assert git_blob(path) == "ce013625030ba8dba906f756967f9e9ca394464a"  # `git hash-object` says so
    assert file_sha256(path) == digest(b"hello\n")


def test_repeated_rows_go_and_contradicting_ones_too() -> None:
    rows = pd.DataFrame({"SMILES": ["C", "N", "C", "O", "N", "O"], "label": ["1", "1", "0", "1", "1", "1"]})
    assert distinct(rows).to_numpy().tolist() == [["N", "1"], ["O", "1"]]


@given(st.lists(st.tuples(st.sampled_from("CNOS"), st.sampled_from("01"))))
def test_what_is_distinct_has_one_label_and_one_row(rows: list[tuple[str, str]]) -> None:
    distinct_rows = distinct(pd.DataFrame(rows, columns=["SMILES", "label"], dtype=str)).to_numpy().tolist()
    labels: dict[str, list[str]] = {}
    for key, label in rows:
        labels.setdefault(key, []).append(label)
    assert distinct_rows == [[key, values[0]] for key, values in labels.items() if len(set(values)) == 1]


MADE = b"SMILES,sequence,label,split\nCC,MK,1,test\nCCC,MK,0,test\nCC,MK,1,train\nCCC,MK,0,train\n"


@pytest.fixture
def toy(server: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Sources of one's own: a made table, one that is not there, and a packaged one."""
    path = tmp_path / "upstream.yaml"
    path.write_text(f"""
web:
  home: http://toy
  licence: CC0
  url: {server.url("/")}{{path}}
  columns: SMILES,Protein,Y
  tables:
    pairs:
      title: Pairs
      use: benchmark=human
      files: [{{path: t.csv, to: raw/train.csv}}, {{path: t.csv, to: raw/test.csv, sha256: {digest(TABLE)}}}]
      derived:
        to: toy/pairs.csv
        parts: {{raw/test.csv: test, raw/train.csv: train}}
        columns: {{SMILES: SMILES, Protein: sequence, Y: label}}
        sha256: {digest(MADE)}
    gone:
      title: Gone
      files: [{{path: gone.csv, to: gone.csv}}]
packages:
  home: http://toy
  licence: MIT
  url: toywheel==1.0!Toy/{{path}}
  package: Toy
  tables:
    packed: {{title: Packed, files: [{{path: data/t.csv, to: packed/t.csv}}]}}
""")
    monkeypatch.setattr(commands, "upstream", lambda: upstream(path))
    server.files["/gone.csv"] = b""
    return tmp_path / "root"


def test_fetch_without_names_says_what_there_is(toy: Path, server: Site, capsys: pytest.CaptureFixture[str]) -> None:
    main(["fetch"])
    output = capsys.readouterr().out
    for part in (
        "pairs  (web)  Pairs",
        "licence: CC0",
        f"raw/train.csv  {server.url('/t.csv')}",
        "use benchmark=human",
    ):
        assert part in output
    assert not toy.exists() and not server.requests


def test_fetch_brings_and_makes_and_verify_agrees(toy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["fetch", "pairs", f"root={toy}"])
    assert (toy / "toy/pairs.csv").read_bytes() == MADE
    assert "use with benchmark=human" in capsys.readouterr().out
    main(["fetch", "pairs", f"root={toy}"])
    assert capsys.readouterr().out.count("kept") == 3
    main(["verify", f"root={toy}"])
    assert capsys.readouterr().out.count(": ok") == 3
    (toy / "raw/train.csv").write_bytes(TABLE + b"X,Y,0\n")
    (toy / "toy/pairs.csv").unlink()
    with pytest.raises(InputError, match=r"2 of 3 failed\n.*recorded on .*\n.*pairs.csv is missing"):
        main(["verify", f"root={toy}"])


def test_one_failure_does_not_keep_the_others_from_coming(toy: Path, server: Site) -> None:
    server.script = [good(), good(), status(404)]
    with pytest.raises(InputError, match=r"not everything could be fetched\ngone: .*404"):
        main(["fetch", "gone", "pairs", f"root={toy}"])
    assert (toy / "toy/pairs.csv").exists() and not (toy / "gone.csv").exists()


def test_an_empty_file_is_no_table(toy: Path) -> None:
    with pytest.raises(InputError, match="gone: gone.csv is empty"):
        main(["fetch", "gone", f"root={toy}"])


def test_verify_says_where_there_is_nothing_to_compare_with(toy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    toy.mkdir()
    with pytest.raises(InputError, match="no table of a known source lies under"):
        main(["verify", f"root={toy}"])
    (toy / "raw").mkdir()
    (toy / "raw/train.csv").write_bytes(TABLE)
    main(["verify", f"root={toy}"])
    assert f"nothing to compare with; fetch it to record {digest(TABLE)}" in capsys.readouterr().out
    Ledger(toy).add("old.csv", "u", "s", 1)
    with pytest.raises(InputError, match="has an entry 'old.csv' that no source explains"):
        main(["verify", f"root={toy}"])


def test_a_wheel_on_disk_gives_its_tables(toy: Path, tmp_path: Path) -> None:
    wheel = tmp_path / "toywheel-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as file:
        file.writestr("Toy/data/t.csv", TABLE)
    main(["fetch", "packed", f"root={toy}", f"wheel={wheel}"])
    assert (toy / "packed/t.csv").read_bytes() == TABLE
    assert Ledger(toy).records()["packed/t.csv"].url == "toywheel==1.0!Toy/data/t.csv"


def test_a_wheel_that_does_not_serve_is_named(toy: Path, tmp_path: Path) -> None:
    name, command = "toywheel-1.0-py3-none-any.whl", r"pip download --no-deps toywheel==1.0"
    with zipfile.ZipFile(tmp_path / name, "w") as file:
        file.writestr("Toy/other.csv", TABLE)
    (tmp_path / "toywheel-1.0-broken.whl").write_bytes(b"no")
    for wheel, message in (
        (tmp_path / "toywheel-2.0-py3-none-any.whl", command),
        (tmp_path / name, "holds no Toy/data/t.csv"),
        (tmp_path / "toywheel-1.0-broken.whl", "is broken or cut short"),
    ):
        with pytest.raises(InputError, match=message):
            main(["fetch", "packed", f"root={toy}", f"wheel={wheel}"])
    with pytest.raises(InputError, match=f"Toy is not installed here.*{command}"):
        main(["fetch", "packed", f"root={toy}"])
    assert visible(toy) == []


def test_an_installed_package_is_found_without_running_it(
    toy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "site" / "Toy"
    (package / "data").mkdir(parents=True)
    (package / "__init__.py").write_text("raise RuntimeError('imported')")
    (package / "data" / "t.csv").write_bytes(TABLE)
    monkeypatch.syspath_prepend(str(package.parent))
    main(["fetch", "packed", f"root={toy}"])
    assert (toy / "packed/t.csv").read_bytes() == TABLE


def test_wrong_words_are_named(toy: Path, tmp_path: Path) -> None:
    for arguments, message in (
        (["fetch", "pears", f"root={toy}"], "unknown table 'pears': expected one of pairs, gone, packed; or all of"),
        (["fetch", "pairs"], "root is not set"),
        (["verify"], "root is not set"),
        (["fetch", "suite=real"], "unknown option suite: expected root, wheel"),
        (["get"], "unknown command 'get': expected list, leakage, floors, fetch, verify"),
        (["list", "nothing", f"root={toy}"], "unknown benchmark 'nothing': expected one of bindingdb"),
        (["list", "suite=none"], "unknown suite 'none': expected one of"),
    ):
        with pytest.raises(ConfigError, match=message):
            main(arguments)


def test_a_source_that_does_not_fit_is_named(tmp_path: Path) -> None:
    path = tmp_path / "u.yaml"
    frame = "c:\n  home: h\n  licence: l\n  url: u\n  tables:\n    t: {{title: T, files: [{{path: p, {}}}]}}\n"
    path.write_text(frame.format("too: x"))
    with pytest.raises(ConfigError, match="table t does not fit"):
        upstream(path)
    for outside in ("../x", "/etc/x"):
        path.write_text(frame.format(f"to: {outside}"))
        with pytest.raises(ConfigError, match="must be a path under the root"):
            upstream(path)


def test_a_root_that_cannot_be_written_is_refused_before_anything_is_fetched(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(StoreError, match=f"root={tmp_path}/file/tables cannot be written"):
        commands.fetch(["human"], str(tmp_path / "file" / "tables"))
