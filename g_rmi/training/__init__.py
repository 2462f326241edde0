"""The trainer: it knows a Task, neither detectors nor poses."""
