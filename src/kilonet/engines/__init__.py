"""How an epoch is computed. `torch`: any module on any device."""
