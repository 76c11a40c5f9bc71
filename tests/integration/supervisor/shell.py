"""The least of a shell with job control: shell.py TTY FOLDER COMMAND...

Runs one command in the foreground of a terminal; says when it stops, and goes on with it on SIGUSR1.
"""

from __future__ import annotations

import os
import signal
import sys


def give(terminal: int, group: int) -> None:
    os.tcsetpgrp(terminal, group)


def main() -> None:
    name, folder, *command = sys.argv[1:]
    signal.signal(signal.SIGTTOU, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
    terminal = os.open(name, os.O_RDWR)  # a session leader without a terminal gets this one
    for fd in (0, 1, 2):
        os.dup2(terminal, fd)
    os.chdir(folder)
    pid = os.posix_spawn(
        command[0],
        command,
        os.environ,
        setpgroup=0,
        setsigmask=[],
        setsigdef=[signal.SIGTTOU, signal.SIGPIPE],
    )
    give(terminal, pid)
    while True:
        _, status = os.waitpid(pid, os.WUNTRACED)
        held = os.tcgetpgrp(terminal)
        give(terminal, os.getpgrp())
        if not os.WIFSTOPPED(status):
            break
        os.write(1, b"shell: stopped\n")
        signal.sigwait({signal.SIGUSR1})
        give(terminal, pid)
        os.killpg(pid, signal.SIGCONT)
    if held == pid:
        os.write(1, b"shell: has the terminal\n")  # that is: ckptd had taken it back
    os.write(1, f"shell: status {os.waitstatus_to_exitcode(status)}\n".encode())


main()
