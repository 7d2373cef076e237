"""Networks that find a phrase on an image: encoders, architectures, and the folder of a trained one."""
