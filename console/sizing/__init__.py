"""How large an installation must be for a load, from what was measured. Pure: no broker, no clock."""
