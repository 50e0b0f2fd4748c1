"""The images that the reference models train on."""
