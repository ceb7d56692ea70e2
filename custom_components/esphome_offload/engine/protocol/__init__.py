"""How two instances talk: identities, pairing, tickets, sealed payloads, messages."""
