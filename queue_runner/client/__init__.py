"""Submit, follow, fetch: the Python API that the command line is written on."""
