"""What is done about it: FirmwareJobs, from the queue to their terminal event."""
