#!/bin/sh
# INDEXER_HEALTH says what this container is: `ray` (a node of the cluster), a URL that must answer, or nothing.
set -eu
case "${INDEXER_HEALTH:-}" in
    "") indexer --version ;;
    ray) ray status --address "${RAY_ADDRESS:-127.0.0.1:6379}" ;;
    *) python -c 'import sys, urllib.request; urllib.request.urlopen(sys.argv[1], timeout=10)' "$INDEXER_HEALTH" ;;
esac
