"""When a job runs by itself: the cron expression of a job file, and files for the schedulers that understand it.

Nothing here runs anything: cron, systemd or Kubernetes does, and `indexer run` is made to be started by them.
"""
