"""What is open and running in one viewer: threads and state. No Qt, no napari."""
