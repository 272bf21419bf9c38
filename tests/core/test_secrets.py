from __future__ import annotations

import pytest

from esmerge.core.secrets import redacted, redacted_values


@pytest.mark.parametrize("name", ["WANDB_API_KEY", "HF_TOKEN", "AWS_SECRET_ACCESS_KEY", "DB_PASSWORD", "MY_SECRET"])
def test_values_of_secret_variables_are_hidden(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, "correct-horse")
    monkeypatch.setenv("OTHER", "battery-staple")
    assert redacted("401: correct-horse, battery-staple") == "401: ***, battery-staple"


def test_a_secret_that_begins_with_another_is_hidden_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("A_TOKEN", "12345678")
    monkeypatch.setenv("B_TOKEN", "1234567890")
    assert redacted("1234567890") == "***"


def test_short_values_hide_no_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("API_KEY", "base")
    assert redacted("method base") == "method base"


def test_passwords_in_addresses_and_tokens_are_hidden() -> None:
    assert redacted("https://me:pass@host:80/x") == "https://***@host:80/x"
    assert redacted("http://host:80/a@b") == "http://host:80/a@b"
    assert redacted("hf_" + "a" * 34) == "***"


def test_configs_are_looked_through(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "correct-horse")
    config = {"a": {"b": ["x correct-horse", 1, None]}, "c": 0.5}
    assert redacted_values(config) == {"a": {"b": ["x ***", 1, None]}, "c": 0.5}
