"""Ways to run an encoder: device, precision, OpenVINO, worker threads, processes. No spaCy."""
