"""What is kept on disk. No torch, no Qt."""
