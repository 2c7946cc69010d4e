"""Makes the built-in emoji model from scratch: data, autoencoder, text encoder, denoiser, distillations, styles."""
