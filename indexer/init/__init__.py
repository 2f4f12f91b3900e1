"""The first job file for a source: look at what is there, choose, and explain the choices."""
