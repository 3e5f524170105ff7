#!/usr/bin/env bash
# The nightly run on one machine, for cron. All arguments go to the command:
#
#   embed-nightly.sh --input 'photos/**.jpg' --output vectors
#
# One run at a time, named after the day. A second call on that day finishes a run that was killed, and does nothing if
# the run is complete. The command's output goes to STATE_DIR/<run_id>.log. If the command fails, the end of the log goes
# to stderr, and cron mails it. The exit code is the command's, or 75 (EX_TEMPFAIL of sysexits.h) while an earlier run is
# still at work.
#
# Environment, all optional:
#   EMBED_IMAGES   the command, on the PATH or with its path (embed-images)
#   RUN_ID         the run's name (nightly-<day in UTC>); set another for a second run on one day
#   STATE_DIR      for the lock and the logs ($XDG_STATE_HOME/embed-images, else ~/.local/state/embed-images)
#   KEEP_DAYS      logs older than this many days are removed (30)
set -euo pipefail

command="${EMBED_IMAGES:-embed-images}"
run_id="${RUN_ID:-nightly-$(date -u +%Y%m%d)}"
state="${STATE_DIR:-${XDG_STATE_HOME:-$HOME/.local/state}/embed-images}"
log="$state/$run_id.log"

mkdir -p "$state"
# The command inherits the lock, so the lock lives as long as the job, even if this script ends.
exec 9>>"$state/lock"
if ! flock --nonblock 9; then
  echo "embed-nightly.sh: expected no run at work, found $state/lock held: run_id=$run_id is left to the next call" >&2
  exit 75
fi

find "$state" -maxdepth 1 -name '*.log' -mtime "+${KEEP_DAYS:-30}" -delete
code=0
"$command" --run_id "$run_id" "$@" >>"$log" 2>&1 || code=$?
if ((code != 0)); then
  echo "embed-nightly.sh: expected exit code 0 of run_id=$run_id, found $code; the end of $log:" >&2
  tail -n 20 "$log" >&2
fi
exit "$code"
