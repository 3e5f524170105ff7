"""What passes between the stages."""
