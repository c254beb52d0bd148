"""What runs inside circusd, and what must hold before it starts."""
