"""Home Assistant's side of having builders."""
