"""Overrides as users write them, put so that Hydra takes them together."""

from __future__ import annotations

from collections.abc import Iterable

NODES = ("backbone", "specialists.backbone")  # settings with a path that may stand for the whole


def with_paths(arguments: Iterable[str]) -> list[str]:
    """``backbone=DIR`` as ``backbone.path=DIR`` where another setting of the backbone is given beside it.

    Hydra would replace all settings of a node by the path, and then find no room for the other one.
    """
    overrides = list(arguments)
    for node in NODES:
        if any(argument.lstrip("+~").startswith(f"{node}.") for argument in overrides):
            overrides = [_with_path(argument, node) for argument in overrides]
    return overrides


def _with_path(argument: str, node: str) -> str:
    key, equals, value = argument.partition("=")
    replaces_node = equals and key.lstrip("+") == node and not value.lstrip().startswith("{")
    return f"{key}.path={value}" if replaces_node else argument
