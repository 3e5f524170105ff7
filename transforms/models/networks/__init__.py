"""Networks written in TensorFlow, one a file; `slim_layers` and `slim_network` are what those of TF-Slim share."""
