#!/bin/sh
# INDEXER_HEALTH says what this container is: `ray` (a node of the cluster), a URL that must answer, or nothing.
set -eu
case "${INDEXER_HEALTH:-}" in
    "") indexer --version ;;
    ray) ray status --address "${RAY_ADDRESS:-127.0.0.1:6379}" ;;
    *) python -c '
import os, sys, urllib.request
token = {"Authorization": "Bearer " + os.environ["INDEXER_TOKEN"]} if "INDEXER_TOKEN" in os.environ else {}
urllib.request.urlopen(urllib.request.Request(sys.argv[1], headers=token), timeout=10)
' "$INDEXER_HEALTH" ;;
esac
