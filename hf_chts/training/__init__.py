"""What a training step needs beside the engine: losses, guards, logs."""
