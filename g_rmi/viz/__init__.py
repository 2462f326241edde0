"""Drawing people, boxes and maps."""
