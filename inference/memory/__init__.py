"""Where loaded models live: flat buffers of weights on disk, in host memory and on the device, and live networks."""
