"""Numbers, layouts and tables that the device and the host must agree on; imports only struct."""
