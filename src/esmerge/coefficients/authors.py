"""Coefficients in the files of the ES-Merging authors' code: a layer CSV and an element ``.pt``, written and read.

Facts of their format (github.com/WonbinLee067/es-merging). The CSV has rows ``layer_0``, ``layer_1``, … and a column
``coef_ROLE`` for each expert's role. The ``.pt`` is a dictionary whose entry ``coef_ROLE`` maps a factor's name to its
weights beta; names are in lower case and begin at ``layers.``. Their merge ``es`` multiplies both and normalises;
``layerwise`` and ``elementwise`` take one file. Roles are ``mol``, ``prot`` and ``cell``, and layers 32 at most.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pandas as pd
import torch
from torch import Tensor

from esmerge.coefficients import formulas
from esmerge.coefficients.types import Coefficients
from esmerge.core.errors import InputError
from esmerge.core.names import layer_of
from esmerge.storage.files import read_table, replacing, write_table

ROLES = ("mol", "prot", "cell")
LAYER_FILE, ELEMENT_FILE = "layerwise_merging_coefficients.csv", "element_wise_coef.pt"
LAYERS = 32  # what their loader looks at
COLUMN, JOINT = "coef_", "joint_"
REST = ("lm_head", "final_output")  # rows beyond the decoder layers that their table may hold
TOLERANCE = 1e-5  # of the sum over experts: they round to eight decimals

Tensors = Mapping[str, Tensor]


def authors_name(tensor: str) -> str:
    """Their name of a factor: in lower case, from ``layers.`` on.

    Raises:
        InputError: it is no factor of a decoder layer in a list called ``layers``.
    """
    lower = tensor.lower()
    if ".lora_" not in lower or ".layers." not in lower:
        raise InputError(
            f"{tensor} is no LoRA factor of a decoder layer called layers.N: the authors' files hold no other "
            "coefficients; merge with merge_space=factors"
        )
    return lower[lower.index(".layers.") + 1 :]


def write_authors(coefficients: Coefficients, roles: Mapping[str, str], folder: Path) -> list[Path]:
    """Write the layer CSV and, where there are element-wise coefficients, the element ``.pt``.

    Joint coefficients lambda are written as alpha and beta, of which their merge ``es`` makes lambda again, and as they
    are beside them, so that reading them back is exact. A role without an expert has weight 0 everywhere.

    Args:
        coefficients: of factors; of any experts.
        roles: role -> expert, of every expert.
        folder: it must exist.

    Raises:
        InputError: roles and experts do not match, or the authors' code cannot read such coefficients.
    """
    _check_roles(roles, coefficients)
    alpha = torch.stack([coefficients.layer[expert] for expert in roles.values()])
    if alpha.shape[1] > LAYERS:
        raise InputError(f"{alpha.shape[1]} layers: the authors' code reads {LAYERS} and drops the others in silence")
    paths = [write_table(folder / LAYER_FILE, _layer_table(alpha, list(roles)))]
    if coefficients.elements:
        payload = _element_payload(coefficients, roles, alpha)
        with replacing(folder / ELEMENT_FILE) as partial:
            torch.save(payload, partial)
        paths.append(folder / ELEMENT_FILE)
    return paths


def read_authors(
    layer_file: Path | None,
    element_file: Path | None,
    roles: Mapping[str, str],
    shapes: Mapping[str, tuple[int, ...]],
    granularity: str,
) -> Coefficients:
    """Coefficients for a merge of factors, from the authors' files.

    Args:
        layer_file: the CSV; ``layer`` and ``joint`` need it.
        element_file: the ``.pt``, read with ``weights_only=True``; ``element`` and ``joint`` need it.
        roles: role -> expert, of every expert.
        shapes: name -> shape of every factor that is to be merged.
        granularity: ``layer``, ``element`` or ``joint``.

    Raises:
        InputError: a file is missing or is none of theirs; a layer, factor or role is missing, left over, of another
            shape, or its weights do not sum to 1. All faults of the factors are listed.
    """
    needed = {"layer": granularity != "element", "element": granularity != "layer"}
    for kind, path in (("layer", layer_file), ("element", element_file)):
        if needed[kind] and path is None:
            raise InputError(f"granularity={granularity} needs the authors' {kind} file: give coefficients.{kind}")
    depth = 1 + max(layer_of(name) for name in shapes)
    alpha = torch.full((len(roles), depth), 1 / len(roles))
    if needed["layer"] and layer_file is not None:
        alpha = _read_layers(layer_file, list(roles), depth)
    experts = list(roles.values())
    layer = dict(zip(experts, alpha, strict=True))
    if not needed["element"] or element_file is None:
        return Coefficients(layer, {})
    elements = _read_elements(element_file, list(roles), shapes, alpha if granularity == "joint" else None)
    return Coefficients(layer, {expert: {n: w[i] for n, w in elements.items()} for i, expert in enumerate(experts)})


def beta_of(alpha: Tensor, joint: Tensor) -> Tensor:
    """Element-wise weights of which alpha makes given joint ones, ``beta ∝ lambda / alpha``.

    Args:
        alpha: (N,), the layer's coefficients.
        joint: (N, *shape), lambda.

    Returns:
        (N, *shape) in the precision of ``joint``; sums to 1 over the experts.
    """
    wide = joint.double()
    column = alpha.double().clamp_min(torch.finfo(torch.float32).tiny).reshape(-1, *[1] * (joint.ndim - 1))
    return torch.softmax(wide.log() - column.log(), dim=0).to(joint.dtype)


def _check_roles(roles: Mapping[str, str], coefficients: Coefficients) -> None:
    if sorted(roles.values()) != sorted(coefficients.layer) or not set(roles) <= set(ROLES):
        raise InputError(
            f"roles={dict(roles)}: expected some of {', '.join(ROLES)}, all that the authors' code reads, each with "
            f"one of the experts {', '.join(coefficients.layer)}, and every expert once"
        )


def _layer_table(alpha: Tensor, roles: list[str]) -> pd.DataFrame:
    columns: dict[str, list[str] | list[float]] = {"layer": [f"layer_{index}" for index in range(alpha.shape[1])]}
    for role in ROLES:
        row = alpha[roles.index(role)] if role in roles else torch.zeros(alpha.shape[1])
        columns[COLUMN + role] = row.double().tolist()
    return pd.DataFrame(columns)


def _element_payload(coefficients: Coefficients, roles: Mapping[str, str], alpha: Tensor) -> dict[str, object]:
    names = list(next(iter(coefficients.elements.values())))
    if len({authors_name(name) for name in names}) < len(names):
        raise InputError("two factors have one name in lower case: the authors' code cannot tell them apart")
    uniform = bool((alpha == alpha[:1]).all())
    payload: dict[str, dict[str, Tensor]] = {COLUMN + role: {} for role in ROLES}
    payload |= {} if uniform else {JOINT + role: {} for role in roles}
    for name in names:
        weights = torch.stack([coefficients.elements[expert][name].cpu() for expert in roles.values()])
        beta = weights if uniform else beta_of(alpha[:, layer_of(name)], weights)
        for role in ROLES:
            index = list(roles).index(role) if role in roles else None
            payload[COLUMN + role][authors_name(name)] = (
                torch.zeros_like(beta[0]) if index is None else beta[index].clone()
            )
            if index is not None and not uniform:
                payload[JOINT + role][authors_name(name)] = weights[index].clone()
    return {"meta": {"experts": dict(roles), "granularity": "element" if uniform else "joint"}, **payload}


def _read_layers(path: Path, roles: list[str], depth: int) -> Tensor:
    """alpha, (N, L)."""
    if not path.is_file():
        raise InputError(f"coefficients.layer={path} does not exist")
    table = read_table(path, numbers=(COLUMN,))
    columns = [str(column) for column in table if str(column).startswith(COLUMN)]
    _check_columns(path, [column.removeprefix(COLUMN) for column in columns], roles, "layer" in table)
    rows = table[~table["layer"].isin(REST)]
    expected = [f"layer_{index}" for index in range(len(rows))]
    if sorted(rows["layer"]) != sorted(expected) or len(rows) < depth:
        raise InputError(
            f"{path} has the rows {', '.join(rows['layer'])}: expected layer_0 to layer_{depth - 1}, each once"
        )
    ordered = rows.set_index("layer").loc[expected]
    unused = [column for column in columns if column.removeprefix(COLUMN) not in roles]
    if unused and ordered[unused].to_numpy().any():
        raise InputError(f"{path} gives weight to {', '.join(unused)}, a role of no expert here: name it in roles")
    alpha = torch.tensor(ordered[[COLUMN + role for role in roles]].to_numpy().T.copy(), dtype=torch.float64)
    _check_weights(alpha, str(path))
    return alpha.float()


def _read_elements(
    path: Path, roles: list[str], shapes: Mapping[str, tuple[int, ...]], alpha: Tensor | None
) -> dict[str, Tensor]:
    """Factor -> (N, *shape): lambda where alpha is given, else beta."""
    payload = _load(path)
    columns = [key.removeprefix(COLUMN) for key in payload if key.startswith(COLUMN)]
    _check_columns(path, columns, roles, bool(columns))
    stored = alpha is not None and all(JOINT + role in payload for role in roles)
    start = JOINT if stored else COLUMN
    names = {authors_name(name): name for name in shapes}
    faults = [f"{COLUMN}{role} holds {key}" for role in roles for key in payload[start + role] if key not in names]
    elements: dict[str, Tensor] = {}
    for key, name in names.items():
        weights = [payload[start + role].get(key) for role in roles]
        wrong = [
            f"{COLUMN}{role} has {key} of shape {None if w is None else tuple(w.shape)}, expected {shapes[name]}"
            for role, w in zip(roles, weights, strict=True)
            if w is None or tuple(w.shape) != tuple(shapes[name])
        ]
        faults += wrong
        if not wrong:
            stacked = torch.stack([w.float() for w in weights if w is not None])
            _check_weights(stacked, f"{path}, {key}")
            joint = alpha is not None and not stored
            elements[name] = (
                formulas.joint_coefficients(alpha[:, layer_of(name)], stacked)
                if joint and alpha is not None
                else stacked
            )
    if faults:
        listing = "\n  ".join(faults)
        raise InputError(f"{path} does not fit the adapters:\n  {listing}")
    return elements


def _load(path: Path) -> dict[str, dict[str, Tensor]]:
    if not path.is_file():
        raise InputError(f"coefficients.element={path} does not exist")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds, all of them about this file
        raise InputError(f"{path} cannot be read as tensors alone ({str(error).splitlines()[0]})") from error
    if not isinstance(content, dict):
        raise InputError(f"{path} holds a {type(content).__name__}, expected a dictionary with {COLUMN}ROLE entries")
    return {key: value for key, value in content.items() if key.startswith((COLUMN, JOINT)) and isinstance(value, dict)}


def _check_columns(path: Path, columns: list[str], roles: list[str], complete: bool) -> None:
    missing = [role for role in roles if role not in columns]
    if missing or not complete:
        raise InputError(f"{path} has coefficients of {', '.join(columns) or 'nobody'}, expected {', '.join(roles)}")


def _check_weights(weights: Tensor, subject: str) -> None:
    """Raise ``InputError`` unless weights, (N, ...), are at least 0 and sum to 1."""
    total = weights.sum(dim=0)
    if not bool((weights >= 0).all()) or not bool(((total - 1).abs() <= TOLERANCE).all()):
        raise InputError(
            f"{subject}: weights must be 0 or more and sum to 1 over the experts, as those of all roles do"
        )
