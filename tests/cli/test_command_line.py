from __future__ import annotations

import shlex
import sys
from pathlib import Path

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

from esmerge.cli.command_line import prepare_command_line, quoted, readable
from esmerge.core.errors import ConfigError

AWKWARD = [
    "/t/a=b",
    "/t/a(b)",
    "/t/a[1]",
    "/t/{a}",
    "/t/it's",
    '/t/a"b',
    "/t/größe",
    "/t/日本",
    "/t/a#b",
    "/t/a&b",
    "~",
]
ENDINGS = ["/t/a\\", '/t/a\\"', "/t/a\\\\", "/t/ a ", "1e3", "true"]


def read_by_hydra(word: str) -> object:
    return OverridesParser.create().parse_override(word).value()


@pytest.mark.parametrize("value", AWKWARD)
def test_a_value_that_hydra_cannot_read_is_refused_with_its_quoted_form(value: str) -> None:
    with pytest.raises(ConfigError, match="quote it: ") as refusal:
        readable(["-m", f"out={value}"])
    (word,) = shlex.split(str(refusal.value).partition("quote it: ")[2])
    assert read_by_hydra(word) == value and readable([word]) == [word]


@pytest.mark.parametrize("value", AWKWARD + ENDINGS)
def test_quoted_values_are_read_as_they_are(value: str) -> None:
    assert read_by_hydra(quoted("out", value)) == value


@pytest.mark.parametrize("start", ["", "+", "specialists.", "+specialists."])
def test_an_expert_that_is_given_twice_is_refused(start: str) -> None:
    words = [f"{start}experts.mol=a", "experts.prot=b", "out=c", f"{start}experts.mol=d", "out=e"]
    with pytest.raises(ConfigError, match=r"experts\.mol is given 2 times: give each adapter a name of its own"):
        readable(words)
    assert readable(words[1:]) == words[1:]


def test_blanks_around_a_value_are_refused_and_those_inside_are_not() -> None:
    with pytest.raises(ConfigError, match="blanks around a value: quote it, 'out=\"/t/a \"'"):
        readable(["out=/t/a "])
    assert readable(["out=/t/a b"]) == ["out=/t/a b"]


def test_a_list_of_many_values_is_no_path() -> None:
    word = "granularity.tau=" + ",".join(f"{value / 200:.3f}" for value in range(1, 200))
    assert readable(["-m", word]) == ["-m", word]


def test_a_comma_in_one_value_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="add -m; .*quote it, 'out=\"a,b\"'; for a list, 'out=\\[a,b\\]'"):
        readable(["out=a,b"])
    assert readable(["-m", "granularity=layer,joint"]) == ["-m", "granularity=layer,joint"]
    (tmp_path / "a,b").mkdir()
    with pytest.raises(ConfigError, match="there is such a path: quote it"):
        readable(["-m", f"benchmark.root={tmp_path}/a,b"])


@pytest.mark.parametrize("values", ["choice(1,2)", "interval(0.3,3)", "range(1,4)", "glob(*)", "shuffle(1,2)"])
def test_several_values_need_a_sweep(values: str) -> None:
    word = f"method.scale={values}"
    with pytest.raises(ConfigError, match=r"method\.scale=.*one for each job of a sweep or search: add -m"):
        readable([word])
    for option in ("-m", "--multirun", "hydra.mode=MULTIRUN"):
        assert readable([option, word]) == [option, word]


@pytest.mark.parametrize("value", ["1e3", "true", "007", "1_000", "3.0"])
@pytest.mark.parametrize("key", ["out", "cache", "experts.mol", "specialists.experts.mol", "hydra.sweep.dir"])
def test_folders_may_have_names_that_look_like_numbers(key: str, value: str) -> None:
    (word,) = readable([f"{key}={value}"])
    assert read_by_hydra(word) == value


@pytest.mark.parametrize(
    "word", ["seed=1", "method.scale=1e3", "allow_partial=true", "out=null", "a=[1,2]", "--help", "--config-dir=/a,b"]
)
def test_other_words_stay(word: str) -> None:
    assert readable([word, "--config-dir", "a=(b"]) == [word, "--config-dir", "a=(b"]


def test_the_path_of_a_backbone_and_its_other_settings_stand_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["esmerge", "backbone=DIR", "backbone.trust_remote_code=true"])
    prepare_command_line()
    assert sys.argv[1:] == ["backbone.path=DIR", "backbone.trust_remote_code=true"]


@pytest.mark.parametrize("value", ["~/x", "'~/x'", '"~/x"', "~"])
def test_home_is_expanded_where_hydra_makes_the_folder(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    (word,) = readable([f"hydra.run.dir={value}"])
    assert read_by_hydra(word) == f"/home/me{value.strip(chr(34) + chr(39)).removeprefix('~')}"


def test_names_and_letters_that_nothing_can_quote_are_refused() -> None:
    for name in ("my expert", "é", "1e3", "-"):
        with pytest.raises(ConfigError, match=f"experts.{name}=/x: Hydra cannot read the name before =: it may hold"):
            readable([f"experts.{name}=/x"])
    with pytest.raises(ConfigError, match=r"out=/t/\\udcc3.*set LC_ALL=C.UTF-8"):
        readable(["out=/t/\udcc3"])
    with pytest.raises(ConfigError, match="hydra.run.dir=~nobody-here/x: no such home folder"):
        readable(["hydra.run.dir=~nobody-here/x"])


@pytest.mark.parametrize(
    "word", ["method=[null]", "method=1", "+experiment=true", "granularity=[joint,2]", "method={a: 1}"]
)
def test_a_group_is_given_a_name(word: str) -> None:
    with pytest.raises(ConfigError, match=r"is a config group, expected the name of one of its choices"):
        readable([word])


@pytest.mark.parametrize(
    "word", ["method='ties'", "experiment=null", "~method", "seed=[1,null]", "hydra/launcher=joblib"]
)
def test_other_values_are_left_to_hydra(word: str) -> None:
    assert readable([word]) == [word]
