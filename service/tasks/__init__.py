"""What a task is: its document, how it changes, how its type is declared. Pure: no I/O, and next to no clock."""
