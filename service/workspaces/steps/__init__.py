"""What a workspace is made of, step by step."""
