"""What things are: geometry, pictures, labels, corrections. No torch, no Qt, no napari."""
