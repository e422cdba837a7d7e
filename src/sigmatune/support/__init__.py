"""What knows nothing of diffusion: errors, files, JSON files, registries, options, pixels, threads, engines."""
