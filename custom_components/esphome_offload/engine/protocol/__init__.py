"""The protocol between two instances: identities, pairing, the encrypted channel, messages."""
