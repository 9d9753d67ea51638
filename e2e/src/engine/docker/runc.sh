#!/bin/sh
# An OCI runtime for machines where even root lacks CAP_SYS_RESOURCE. Docker asks runc for that capability, for a lower
# out-of-memory score and for higher limits whenever a container is privileged, and runc refuses. This takes the three
# out of what it asks for, and leaves everything else to runc.
set -eu

modest='(.capabilities // {}) |= map_values(. - ["CAP_SYS_RESOURCE"]) | del(.oomScoreAdj, .rlimits)'
command='' bundle=. process='' expects=''
for word in "$@"; do
    case $expects in
        bundle) bundle=$word ;;
        process) process=$word ;;
    esac
    expects=''
    case $word in
        --bundle | -b) expects=bundle ;;
        --bundle=*) bundle=${word#*=} ;;
        --process | -p) expects=process ;;
        --process=*) process=${word#*=} ;;
        create | run | exec) command=${command:-$word} ;;
    esac
done

rewrite() {
    jq "$2" "$1" >"$1.modest"
    # Written through, not renamed: the file may be open already.
    cat "$1.modest" >"$1"
    rm "$1.modest"
}

case $command in
    create | run) rewrite "$bundle/config.json" ".process |= ($modest)" ;;
    exec) [ -z "$process" ] || rewrite "$process" "$modest" ;;
esac
exec runc "$@"
