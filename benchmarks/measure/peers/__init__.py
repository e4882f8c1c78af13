"""Task queues: what users would pick, and queue-runner, behind one interface (`measure.peers.base`)."""
