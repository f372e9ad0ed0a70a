"""The tools for commands, as they are offered: names, schemas, hints. What they do is `shell`."""

from __future__ import annotations

from workspace_runtime.inside import tool
from workspace_runtime.inside.shell import LOG_BYTES, MAX_SECONDS, Shell
from workspace_runtime.inside.tool import Tool, flag, gives, text, whole

_JOB = text("Its number, as shell_run gave it.")
_STATE = {
    "job": _JOB,
    "running": flag("It has not ended."),
    "exit_code": whole("Of the command; negative for a signal."),
    "reason": text("Why it was ended, if not by itself: timeout, killed, memory limit, process limit, disk quota."),
}
_ENDED = ("exit_code", "reason")


def shell_tools(shell: Shell) -> list[Tool]:
    return [*_running(shell), *_jobs(shell)]


def _running(shell: Shell) -> list[Tool]:
    return [
        Tool(
            "shell_run",
            "Run a command",
            "Run a command in a shell, in the workspace. Output is told as it comes. Whatever it leaves running "
            "is ended with it, unless it is run in the background: then shell_logs and shell_kill know its job.",
            shell.run,
            {
                "command": text("For bash, or sh where there is none."),
                "timeout": whole("Seconds; 120 unless said.", minimum=1, maximum=MAX_SECONDS),
                "cwd": text("A directory of the workspace; its root unless said."),
                "env": {"type": "object", "additionalProperties": {"type": "string"}, "description": "Variables."},
                "stdin": text("What the command reads."),
                "background": flag("Do not wait for its end."),
            },
            gives(
                {
                    **_STATE,
                    "stdout": text("What it said."),
                    "stderr": text("What it complained of."),
                    "truncated": flag("Something of the middle was left out."),
                    "seconds": {"type": "number", "description": "It took."},
                },
                (*_ENDED, "job", "running", "stdout", "stderr", "truncated", "seconds"),
            ),
            ("command",),
            destroys=True,
            open_world=True,
        ),
    ]


def _jobs(shell: Shell) -> list[Tool]:
    return [
        Tool(
            "shell_logs",
            "Read a job's output",
            f"What a background job has said, from `offset` on. The last {LOG_BYTES} bytes are kept.",
            shell.logs,
            {
                "job": _JOB,
                "offset": whole("In bytes; `next_offset` of the call before.", minimum=0),
                "wait": whole("Seconds to wait for the job's end where there is nothing new.", minimum=0, maximum=60),
            },
            gives(
                {
                    **_STATE,
                    "output": text("Both streams, as they came."),
                    "offset": whole("Of the first byte given; later than asked if older output is forgotten."),
                    "next_offset": whole("To go on from."),
                    "more": flag("There is more already."),
                },
                _ENDED,
            ),
            ("job",),
            reads_only=True,
        ),
        Tool(
            "shell_kill",
            "End a job",
            "End a background job and all of its processes, or send it a signal.",
            shell.kill,
            {"job": _JOB, "signal": text("KILL unless said.", enum=["KILL", "TERM", "INT", "HUP"])},
            gives(_STATE, _ENDED),
            ("job",),
            destroys=True,
            idempotent=True,
        ),
        Tool(
            "shell_jobs",
            "List jobs",
            "Background jobs that run, and the last that ended.",
            shell.list,
            {},
            gives({"jobs": tool.array(gives({**_STATE, "command": text("Its command.")}, _ENDED), "Oldest first.")}),
            reads_only=True,
        ),
    ]
