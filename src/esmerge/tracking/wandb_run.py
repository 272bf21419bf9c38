"""One run of W&B's client, from its start to its end."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from esmerge.core.secrets import redacted_values
from esmerge.tracking.wandb_client import client_environment, client_settings, forget_service
from esmerge.tracking.wandb_settings import LONGEST_NAME, Tracking

if TYPE_CHECKING:
    import wandb  # imported late: it takes most of a second and reads the environment


@dataclass(frozen=True)
class Identity:
    """What tells a W&B run from others.

    Attributes:
        group: the sweep.
        job_type: ``merge``, ``reference``, ``probe``, ``seeds``, ``overview`` or ``train``.
        tags: values that runs are filtered by.
        id: of eight letters and digits; drawn anew by default, even where the client took one from the environment.
    """

    group: str
    name: str
    job_type: str
    tags: Sequence[str] = ()
    id: str = field(default_factory=lambda: uuid.uuid4().hex[:8])


@contextmanager
def wandb_run(
    settings: Tracking,
    mode: str,
    parent: Path,
    identity: Identity,
    config: Mapping[str, object],
    code: int = 0,
    resume: bool = False,
) -> Iterator[wandb.Run]:
    """A W&B run that ends with the block, as failed where the block raises.

    Args:
        mode: as ``client_mode`` says.
        parent: of the ``wandb`` folder.
        config: the resolved configuration.
        code: exit code where the block does not raise.
        resume: whether the server's run of this id goes on, with the history that it has.
    """
    import wandb  # late: its import takes most of a second and reads the environment

    parent.mkdir(parents=True, exist_ok=True)
    with client_environment(mode, parent):
        run = wandb.init(
            project=settings.project,
            entity=settings.entity,
            config=redacted_values(config),
            tags=list(identity.tags),
            settings=client_settings(mode, parent, settings.timeout),
            id=identity.id,
            resume="allow" if resume else None,
            reinit="create_new",
            group=identity.group[:LONGEST_NAME],
            name=identity.name[:LONGEST_NAME],
            job_type=identity.job_type,
        )
        ending = 1
        try:
            yield run
            ending = code
        finally:
            run.finish(exit_code=ending)


def restart_client() -> None:
    """Let the next run start W&B's process anew: one that has died would fail every later run, too."""
    with suppress(Exception):  # a client whose process is gone says so in many ways
        import wandb

        wandb.teardown()
    forget_service()  # the client leaves it where another client in this process had started the process
