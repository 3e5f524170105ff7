"""Networks in TensorFlow, one per file. Those of TF-Slim share `slim_layers` and `slim_network`."""
