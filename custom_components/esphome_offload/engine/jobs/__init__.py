"""FirmwareJobs, from the queue to their terminal event."""
