"""What must hold before circusd starts, and what a start tells."""
