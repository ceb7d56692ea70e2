"""The benchmark: what we cost, beside the bare ``esphome`` command on the same machine."""
