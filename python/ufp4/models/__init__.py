"""Models in and out: folders of Hugging Face's layout and checkpoints of ufp4."""
