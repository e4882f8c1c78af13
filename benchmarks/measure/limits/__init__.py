"""What the machine and the servers can do at best: raw clients and system calls, measured in the same run."""
