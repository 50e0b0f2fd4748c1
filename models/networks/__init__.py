"""StyleGAN2's generator and discriminator, the encoder, and the discriminators of codes."""
