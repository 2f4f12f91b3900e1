#!/bin/sh
# indexer ARGUMENTS, or any other program: `ray start ...`, `sh`.
# exec: signals reach the program, which then stops cleanly.
set -eu
case "${1:-}" in
    ray | python | sh | bash) exec "$@" ;;
    *) exec indexer "$@" ;;
esac
