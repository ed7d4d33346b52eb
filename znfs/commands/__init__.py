"""What the commands do that are more than a call: one module each. `znfs.cli` parses for them."""
