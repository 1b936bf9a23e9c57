"""The self-test: seeds known defects into copies of a bundle and sees the gate refuse each. Uses gate and evidence."""
