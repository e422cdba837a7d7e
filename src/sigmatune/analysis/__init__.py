"""Analysis: which noise levels decide about which frequencies of the image."""
