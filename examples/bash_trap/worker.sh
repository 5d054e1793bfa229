#!/usr/bin/env bash
#
# Sums up the squares of its steps, and can be stopped and continued at any time.
#
# Shows what a bash job with "supports_termination: true" has to get right:
#
# - bash runs a trap only after the foreground command has ended.  A solver that runs for an hour in the
#   foreground delays the trap by up to an hour, and SIGKILL comes first.  So the long command goes to the
#   background, and bash waits for it: "wait" returns as soon as the signal comes.
# - The supervisor signals the whole process group: mv and sync too, if they happen to be running.  The save
#   therefore runs with SIGTERM ignored, which its commands inherit.
# - The checkpoint is replaced atomically: a temporary file in the same directory, sync, mv.
# - A checkpoint that makes no sense is set aside, instead of being trusted or failing every retry.
#
# usage: worker.sh [--steps N] [--seconds-per-step S] [--save-every N] [--save-seconds S]
#                  [--checkpoint FILE] [--result FILE]

# No "set -e": "wait" reports the signal as a failure, and that is the case that we are here for.
set -u

# --- the trap, before anything that takes time

stop=0
child=''

on_term() {
    stop=1
    # Also for supervisors that signal only this script and not its group.
    [[ -z $child ]] || kill -TERM "$child" 2>/dev/null
}
trap on_term TERM

# --- options

steps=20
seconds_per_step=0.1
save_every=5
save_seconds=0
checkpoint=checkpoints/checkpoint.txt
result=output/result.txt

while (($#)); do
    case $1 in
        --steps) steps=$2 ;;
        --seconds-per-step) seconds_per_step=$2 ;;
        --save-every) save_every=$2 ;;
        --save-seconds) save_seconds=$2 ;; # of the save after SIGTERM, for trying out grace periods
        --checkpoint) checkpoint=$2 ;;
        --result) result=$2 ;;
        *)
            echo "error: unknown option $1 (see the head of $0)" >&2
            exit 2
            ;;
    esac
    shift 2
done

# --- saving

# write_atomically FILE TEXT SECONDS: FILE holds its old content or TEXT, never a part of it.
write_atomically() (
    # In a subshell: ignored here and by every command below, while the script itself still notes the signal.
    trap '' TERM
    directory=$(dirname "$1")
    mkdir -p "$directory" || exit 1
    # mktemp makes a file that only you can read: add a chmod if others need it.
    temporary=$(mktemp "$directory/.$(basename "$1").XXXXXX") || exit 1
    # A failure (a full disk, say) must not leave the temporary file behind, nor touch the old content.
    if ! { printf '%s\n' "$2" >"$temporary" && sleep "$3" &&
        sync "$temporary" && mv -f "$temporary" "$1"; }; then
        rm -f "$temporary"
        exit 1
    fi
    sync "$directory"
)

save() {
    write_atomically "$checkpoint" "step=$step total=$total" "$1"
}

# --- resuming

step=0
total=0
rm -f "$(dirname "$checkpoint")/.$(basename "$checkpoint")".?????? # left by a SIGKILL in a save
if [[ ! -e $checkpoint ]]; then
    echo "no checkpoint at $checkpoint: starting at step 0"
elif [[ $(<"$checkpoint") =~ ^step=(0|[1-9][0-9]{0,17})\ total=(0|[1-9][0-9]{0,17})$ ]]; then
    step=${BASH_REMATCH[1]}
    total=${BASH_REMATCH[2]}
    echo "resumed from step $step"
else
    mv -f "$checkpoint" "$checkpoint.bad" || exit 1
    echo "checkpoint $checkpoint is corrupt: set aside as $checkpoint.bad, starting at step 0"
fi
if [[ -n ${TORC_GRACE_SECONDS:-} ]]; then
    echo "after SIGTERM there are $TORC_GRACE_SECONDS s to save (TORC_GRACE_SECONDS)"
fi

# --- working

# Runs a command so that a signal is acted on at once, and returns its exit status.
run_interruptibly() {
    local status
    "$@" &
    child=$!
    # The signal may have come before $child was known to the trap.
    ((!stop)) || kill -TERM "$child" 2>/dev/null
    wait "$child" 2>/dev/null
    status=$?
    # A wait that the trap has cut short says nothing about the child: wait on until it is really gone.
    # (127: there is no such child any more.)
    while ((status != 127)) && kill -0 "$child" 2>/dev/null; do
        wait "$child" 2>/dev/null
        status=$?
    done
    child=''
    return "$status"
}

while ((step < steps && !stop)); do
    run_interruptibly sleep "$seconds_per_step" # your solver
    status=$?
    if ((status != 0)); then
        # Ended by the signal: this step is done again after the resume.  Slurm may signal it before this script.
        ((stop || status == 128 + 15)) && break
        echo "error: step $((step + 1)) failed with exit status $status" >&2
        exit 1
    fi
    step=$((step + 1))
    total=$((total + step * step))
    if ((step % save_every == 0)); then
        echo "step $step/$steps"
        save 0 || echo "could not save the checkpoint of step $step; the one before it is untouched"
    fi
done

if ((step < steps)); then
    trap '' TERM # once is enough: further signals are ignored, by the save too
    echo "SIGTERM: saving checkpoint at step $step"
    save "$save_seconds" || exit 1
    echo "SIGTERM: checkpoint saved, $((steps - step)) of $steps steps left"
    exit 0
fi

write_atomically "$result" "sum of the first $steps squares: $total" 0 || exit 1
echo "complete after $step steps: wrote $result"
