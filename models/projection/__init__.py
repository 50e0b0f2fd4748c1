"""Projects images into a generator's latent space, and finds those it cannot make."""
