"""W&B's client as this program uses it: which variables it sees, which mode it is in, which server it talks to.

Which server that is and whether there is a key for it, the client itself is asked: its host, its settings files and its
credentials differ between releases.
"""

from __future__ import annotations

import os
import pwd
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from omegaconf import OmegaConf

from esmerge.core.errors import TrackingError

if TYPE_CHECKING:
    import wandb  # imported late: it takes most of a second and reads the environment

TRACKING_MODES = ("disabled", "offline", "online")  # the strictest first
CLIENT_MODES = {"dryrun": "offline", "run": "online", "shared": "online"}  # the client's other words
SERVICE = "WANDB_SERVICE"  # where the client's process listens: it names the process that started it, by number
HIDDEN = (  # variables that describe a single run, of which a sweep has many, and the mode, which the config holds
    *("WANDB_RUN_", "WANDB_SWEEP_", "WANDB_RESUME", "WANDB_FORK_", "WANDB_LAUNCH", "WANDB_CONFIG_PATHS"),
    *("WANDB_NAME", "WANDB_MODE", "WANDB_NOTES", "WANDB_TAGS", "WANDB_JOB_", "WANDB_DESCRIPTION", "WANDB_GROUP"),
)


def name_variables() -> None:
    """Let configs say ``${esmerge.wandb:PROJECT,DEFAULT}``: what WANDB_PROJECT says, or the default."""
    OmegaConf.register_new_resolver("esmerge.wandb", variable, replace=True)


def variable(name: str, default: str | None) -> str | None:
    """What ``WANDB_<name>`` says, of a mode in this program's words; the default where it is unset or empty."""
    value = os.environ.get(f"WANDB_{name}") or default
    return CLIENT_MODES.get(str(value), value) if name == "MODE" else value


def client_mode(mode: str, parent: Path) -> str:
    """The mode, or what W&B is set to by a settings file (``wandb offline``, ``wandb disabled``) if that is stricter.

    Args:
        mode: ``tracking.mode``, in which WANDB_MODE has had its say.
        parent: of the ``wandb`` folder.
    """
    if mode == "disabled":
        return "disabled"
    try:
        with client_environment(mode, parent):
            return stricter(mode, client().mode)
    except Exception:  # logging meets it again, and reports it
        return mode


@contextmanager
def client_environment(mode: str, parent: Path) -> Iterator[None]:
    """What the client may see, restored afterwards.

    It is quiet, keeps its staging, cache and logs beside the runs, takes nothing that describes a single run from the
    environment, and has a home even where the user has none.
    """
    _leave_inherited_service()
    variables = {
        "WANDB_SILENT": "true",
        "WANDB_DATA_DIR": str(parent / "wandb" / "data"),
        "WANDB_CACHE_DIR": str(parent / "wandb" / "cache"),
    }
    if mode == "offline":
        variables["WANDB_ERROR_REPORTING"] = "false"  # crash reports are network traffic
    if not _has_home():
        variables["HOME"] = str(parent / "wandb")
    hidden = [name for name in os.environ if name.startswith(HIDDEN)]
    before = {name: os.environ.pop(name, None) for name in (*variables, *hidden)}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            os.environ.update({} if value is None else {name: value})


def client_settings(mode: str, parent: Path, timeout: float) -> wandb.Settings:
    """No console capture, no git, code or machine statistics: a run costs little, and tells nothing about the user."""
    import wandb

    options: dict[str, Any] = {
        "mode": mode,
        "root_dir": str(parent),
        "silent": True,
        "console": "off",
        "disable_git": True,
        "disable_code": True,
        "disable_job_creation": True,
        "init_timeout": timeout,
        "x_disable_stats": True,
        "x_disable_meta": True,
        "x_disable_machine_info": True,
        "x_save_requirements": False,
        "x_graphql_retry_max": 5,
        "x_file_transfer_retry_max": 5,
    }
    supported = type(wandb.Settings()).model_fields  # which differ between releases
    return wandb.Settings(**{key: value for key, value in options.items() if key in supported})


def client() -> wandb.Settings:
    """The client's own settings, from the environment and from the settings files of `wandb login` and the like."""
    import wandb  # late: its import takes most of a second and reads the environment

    try:
        return wandb.setup().settings
    except ValueError as error:  # of its validation
        reason = " ".join(str(error).split())
        raise TrackingError(f"W&B cannot read its WANDB_ variables: {reason}; correct or unset them") from error


def logged_in() -> bool:
    """Whether the client has a key for its server; nothing is asked, neither the user nor the server."""
    import wandb

    try:
        return wandb.login(prompt=False, verify=False)
    except (wandb.Error, ValueError) as error:  # of its validation
        raise TrackingError(f"tracking=online, but W&B refuses its credentials: {error}") from error


@contextmanager
def passing_client(mode: str) -> Iterator[None]:
    """The client for a few questions: its process and its files are gone afterwards."""
    import wandb

    with TemporaryDirectory() as scratch, client_environment(mode, Path(scratch)):
        try:
            yield
        finally:
            wandb.teardown()


def stricter(mode: str, other: str) -> str:
    """``mode``, or the client's ``other`` one if that sends or writes less."""
    return min(mode, CLIENT_MODES.get(other, other), key=TRACKING_MODES.index)


def check_address(source: str, address: str | None) -> None:
    """Refuse a server's address without a scheme: the client would read it as a path, or talk to its default server."""
    if address is not None and not address.startswith(("https://", "http://")):
        raise TrackingError(
            f"{source} is {address!r}: expected the W&B server's address with its scheme, such as https://{address}"
        )


def forget_service() -> None:
    """Let the client start its process anew: it connects to the one that the environment names, gone or not."""
    os.environ.pop(SERVICE, None)


def _leave_inherited_service() -> None:
    """Forget a client's process that another program started: it may have ended, or run on another machine.

    A job of SLURM inherits the variable of whoever submitted it, a worker process that of its parent.
    """
    if str(os.getpid()) not in os.environ.get(SERVICE, "").split("-"):
        forget_service()


def _has_home() -> bool:
    try:
        return bool(os.environ.get("HOME") or pwd.getpwuid(os.getuid()).pw_dir)
    except KeyError:  # no entry, as in many containers
        return False
