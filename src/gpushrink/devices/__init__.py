"""Devices: where arrays live and kernels run, behind one protocol."""
