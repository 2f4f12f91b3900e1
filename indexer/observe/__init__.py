"""Others who hear how a run goes: a log beside the index, a metrics file, webhooks. None can stop or change a run."""
