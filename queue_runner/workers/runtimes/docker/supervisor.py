"""Process 1 of a warm container: a shell script that does one step after another, and what is said to it.

A step is a line `TOKEN VARIABLES ARGUMENTS CALL` on its standard input, and then texts: the work folder, the
log, so many variables as NAME=VALUE, so many arguments. A text is the number of its lines, and its lines. So
nothing that is passed is ever read as shell. It answers what `times` prints, and then a line
`TOKEN CODE OOM CLEAN`: the exit code, how often the kernel has ended something here for want of memory, and
whether the container is as it was made. What runs here is the same user's as the script, and could write such
a line itself; the token is new for every step, so that nothing can be said in advance for those to come.

POSIX sh, and no program but `rm` and `chmod` where something was left in /tmp; `setsid` where there is one.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

#: Says that it waits for steps.
READY = b"ready"
#: Where a call's request is read from and its answer goes: beside the work folder.
REQUEST, ANSWER = ".request", ".answer"
#: A shell reads its input byte by byte.
MOST_BYTES = 32 * 1024
#: Of what it answers.
MOST_ANSWER = 4096

#: The engine is asked to do this in a container whose step is to end: to all but process 1.
TERMINATE = ("/bin/sh", "-c", "kill -TERM -1")

_WRITABLE = ("/tmp", "/dev/shm", "/dev/mqueue")
_LEFT = " ".join(f"{folder}/* {folder}/.[!.]* {folder}/..?*" for folder in _WRITABLE)

#: Its names begin with `qr_`, for the image's own are the job's. Steps run in the foreground: what a shell
#: starts in the background ignores SIGINT. `kill -9 -1` from process 1 reaches all others, and fails when
#: there is none; what has ended goes when another child is waited for.
SCRIPT = f"""
[ $$ = 1 ] || exit 70
qr_kept=$1
trap : INT
trap 'qr_last=1' TERM
qr_last=
qr_newline='
'
qr_setsid=$(command -v setsid) || qr_setsid=
qr_ipc() {{
  for qr_each in shm msg sem; do
    [ -r /proc/sysvipc/$qr_each ] || continue
    {{ read -r qr_line && read -r qr_line; }} </proc/sysvipc/$qr_each && return 0
  done
  return 1
}}
qr_remove() {{
  [ $qr_try = 1 ] || chmod -R u+rwx "$@"
  rm -rf "$@"
}}
qr_clean() {{
  for qr_try in 1 2 3; do
    set --
    qr_found=
    for qr_each in {_LEFT}; do
      [ "$qr_each" != "$qr_kept" ] || continue
      [ -e "$qr_each" ] || [ -L "$qr_each" ] || continue
      [ $qr_try != 3 ] || return 1
      qr_found=1
      set -- "$@" "$qr_each"
      if [ $# -ge 100 ]; then qr_remove "$@"; set --; fi
    done
    [ $# = 0 ] || qr_remove "$@"
    [ -n "$qr_found" ] || break
  done 2>/dev/null
  ! qr_ipc
}}
qr_oom() {{
  qr_count=-
  for qr_each in /sys/fs/cgroup/memory.events /sys/fs/cgroup/memory/memory.oom_control; do
    [ -r $qr_each ] || continue
    while read -r qr_name qr_value; do
      [ "$qr_name" = oom_kill ] && qr_count=$qr_value
    done <$qr_each
  done
}}
echo {READY.decode()}
while read -r qr_token qr_variables qr_arguments qr_call; do
  set --
  qr_texts=$((2 + qr_variables + qr_arguments))
  while [ $qr_texts -gt 0 ]; do
    read -r qr_lines || exit 0
    IFS= read -r qr_text || exit 0
    while [ "$qr_lines" -gt 1 ]; do
      IFS= read -r qr_line || exit 0
      qr_text=$qr_text$qr_newline$qr_line
      qr_lines=$((qr_lines - 1))
    done
    set -- "$@" "$qr_text"
    qr_texts=$((qr_texts - 1))
  done
  (
    cd "$1" || exit 126
    exec </dev/null >>"$2" 2>&1
    [ "$qr_call" = 0 ] || exec <../{REQUEST} >../{ANSWER}
    shift 2
    while [ "$qr_variables" -gt 0 ]; do
      export "$1"
      shift
      qr_variables=$((qr_variables - 1))
    done
    unset OLDPWD
    export PWD
    exec $qr_setsid "$@"
  )
  qr_code=$?
  while kill -9 -1 2>/dev/null; do (:); done
  qr_clean && qr_clean=1 || qr_clean=0
  qr_oom
  times
  echo "$qr_token $qr_code $qr_count $qr_clean"
  [ -z "$qr_last" ] || exit 0
done
"""

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
#: Those that some shell keeps for itself, and the script's.
_SHELLS_OWN = re.compile("BASH.*|EUID|IFS|OLDPWD|PPID|PS[124]|PWD|SHELLOPTS|SHLVL|UID|_|qr_.*")
_TIMES = re.compile(rb"(\d+)m([\d.]+)s (\d+)m([\d.]+)s")


@dataclass(frozen=True, slots=True)
class Said:
    """What it answers. cpu_s: of all steps so far, None where it cannot be read; oom: None likewise."""

    code: int
    cpu_s: float | None
    oom: int | None
    clean: bool


def command(folder: Path) -> list[str]:
    """The script's, for a container that has its work folders in `folder`, be that below /tmp or not."""
    parts = Path(os.path.normpath(folder)).parts
    within = (
        Path(each) for each in _WRITABLE if parts[: len(Path(each).parts)] == Path(each).parts
    )
    kept = next((each / parts[len(each.parts)] for each in within), "")
    return ["/bin/sh", "-c", SCRIPT, "supervisor", str(kept)]


def spoken(
    token: str,
    folder: str,
    log: str,
    variables: Mapping[str, str],
    argv: Sequence[str],
    *,
    call: bool,
) -> bytes | None:
    """A step, as it is told; None for one that cannot be told to a shell as it is meant."""
    if variables.get("PWD") == folder:
        # the shell's own is that
        variables = {name: text for name, text in variables.items() if name != "PWD"}
    if argv[0].startswith("-") or any(
        _NAME.fullmatch(name) is None or _SHELLS_OWN.fullmatch(name) is not None
        for name in variables
    ):
        return None
    given = [f"{name}={value}" for name, value in variables.items()]
    texts = [os_bytes(text) for text in (folder, log, *given, *argv)]
    said = b"".join(b"%d\n%s\n" % (1 + text.count(b"\n"), text) for text in texts)
    if len(said) > MOST_BYTES or b"\0" in said:
        return None
    return f"{token} {len(given)} {len(argv)} {int(call)}\n".encode() + said


def os_bytes(text: str) -> bytes:
    """As the kernel would get it."""
    return text.encode("utf-8", "surrogateescape")


def heard(token: str, answer: bytes) -> Said | None:
    """What it answers to the step with this token; None as long as that is not complete."""
    lines = answer.split(b"\n")
    for number, line in enumerate(lines[:-1]):
        words = line.split()
        if len(words) == 4 and words[0] == token.encode():
            return _said(words[1:], lines[number - 1] if number else b"")
    return None


def _said(words: Sequence[bytes], times: bytes) -> Said | None:
    code, oom, clean = words
    if not code.isdigit() or len(code) > 3:
        return None
    found = _TIMES.match(times)
    cpu_s = None
    if found is not None:
        minutes, seconds, more_minutes, more_seconds = map(float, found.groups())
        cpu_s = 60 * (minutes + more_minutes) + seconds + more_seconds
    count = int(oom) if oom.isdigit() and len(oom) < 16 else None
    return Said(int(code), cpu_s, count, clean == b"1")
