"""The network that reads the six factors from an image: trained, evaluated, shipped."""
