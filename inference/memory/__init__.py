"""Where loaded models live: flat buffers of weights on disk, in memory and on the device, and the networks they
fill."""
