"""Plays SLURM's commands for one array job: called as sbatch, srun, scontrol or sacct, it does what each would do.

$FAKE_SLURM is the folder of its state: ``script`` as it was submitted, ``pids/TASK`` and ``attempts/TASK``.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

STATE = Path(os.environ["FAKE_SLURM"])
JOB = "4711"


def sbatch(script: str) -> None:
    shutil.copy(script, STATE / "script")
    array = re.search(r"--array=0-(\d+)", (STATE / "script").read_text())
    for task in range(int(array[1]) + 1 if array else 1):
        start(task)
    print(f"Submitted batch job {JOB}")


def start(task: int) -> None:
    attempts = STATE / "attempts" / str(task)
    attempts.parent.mkdir(exist_ok=True)
    attempts.write_text(attempts.read_text() + "x" if attempts.exists() else "x")
    numbers = {"SLURM_JOB_ID": f"{int(JOB) + task}", "SLURM_ARRAY_JOB_ID": JOB, "SLURM_ARRAY_TASK_ID": str(task)}
    places = dict.fromkeys(("SLURM_NODEID", "SLURM_PROCID", "SLURM_LOCALID"), "0")
    sizes = {"SLURM_NTASKS": "1", "SLURM_JOB_NUM_NODES": "1", "SLURM_JOB_NODELIST": "node0"}
    subprocess.Popen(
        ["bash", STATE / "script"],
        env={**os.environ, **numbers, **places, **sizes},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def srun(*arguments: str) -> None:
    options, command, words = {}, [], list(arguments)
    while words and words[0].startswith("--"):
        name = words.pop(0)
        options[name] = words.pop(0) if name in ("--output", "--error") else ""
    command = words
    task = os.environ["SLURM_ARRAY_TASK_ID"]
    (STATE / "pids").mkdir(exist_ok=True)
    (STATE / "pids" / task).write_text(str(os.getpid()))
    for descriptor, name in ((1, "--output"), (2, "--error")):
        path = options[name].replace("%A", JOB).replace("%a", task).replace("%t", "0").replace("%j", JOB)
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND), descriptor)
    os.execvp(command[0], command)


def scontrol(verb: str, job: str) -> None:
    assert verb == "requeue"
    start(int(job.rpartition("_")[2]))


def sacct(*arguments: str) -> None:
    print("JobID|State|NodeList")
    for task in sorted(path.name for path in (STATE / "attempts").iterdir()):
        print(f"{JOB}_{task}|RUNNING|node0")


if __name__ == "__main__":
    {"sbatch": sbatch, "srun": srun, "scontrol": scontrol, "sacct": sacct}[Path(sys.argv[0]).name](*sys.argv[1:])
